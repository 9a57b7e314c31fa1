//! One pair of programs for all functions that driver plug-ins ask for (steps).

use core::hint::black_box;

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use vfio_trace_common::{
    capture::{StepSpec, moment, step_device},
    role::Role,
    wire::{Kind, STEP_ARGS, Step},
};

use crate::{
    capture, device,
    emit::emit,
    gate,
    inflight::{self, Call},
    maps::{DEVICES, STEPS},
};
/// Returns the device that a step is about, 0 if there is none, and the role of the call that the thread is in,
/// `u32::MAX` if that call is about another device.
#[inline(always)]
fn device_of(spec: &StepSpec, args: &[u64; STEP_ARGS]) -> (u64, u32) {
    let (of_thread, within) = inflight::of_thread();
    if spec.device == step_device::OF_THREAD {
        return (of_thread, within);
    }
    let argument = match spec.argument {
        0 => args[0],
        1 => args[1],
        2 => args[2],
        _ => args[3],
    };
    let device = if argument == 0 { 0 } else { capture::follow(argument, &spec.chain).unwrap_or(0) };
    if spec.device == step_device::BY_ARGUMENT || DEVICES.get_ptr(device).is_some() {
        // A thread can work on another device than the one that it was called for.
        return (device, if device == of_thread { within } else { u32::MAX });
    }
    (of_thread, within)
}

/// Handles the entry of a step.
#[kprobe]
pub fn step_enter(ctx: ProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let Some(spec) = STEPS.get(u32::from(probe.index())) else { return 0 };
    // Reads all of them now: the verifier does not allow a computed offset into the registers.
    let args: [u64; STEP_ARGS] = black_box([
        ctx.arg(0).unwrap_or(0),
        ctx.arg(1).unwrap_or(0),
        ctx.arg(2).unwrap_or(0),
        ctx.arg(3).unwrap_or(0),
        ctx.arg(4).unwrap_or(0),
    ]);
    let (device, within) = device_of(spec, &args);
    if device == 0 {
        return 0;
    }
    let call = Call {
        device,
        file: u64::from(within),
        a: args[0],
        data: [args[1], args[2], args[3], args[4]],
        ..Call::now()
    };
    inflight::enter_as(&ctx, probe, inflight::step_key(probe), &call);
    if spec.captures & moment::STEP_ENTER != 0 {
        device::seen(probe, Role::Step, &call);
        capture::run(&ctx, moment::STEP_ENTER, &Call { file: 0, ..call });
    }
    0
}

/// Handles the return of a step: emits a record.
#[kretprobe]
pub fn step_exit(ctx: RetProbeContext) -> u32 {
    let Some(probe) = gate::probe(&ctx) else { return 0 };
    let Some(mut call) = inflight::leave_as(inflight::step_key(probe)) else { return 0 };
    let within = call.file as u32;
    call.file = 0;
    device::seen(probe, Role::Step, &call);
    let body = Step {
        ret: ctx.ret(),
        args: [call.a, call.data[0], call.data[1], call.data[2], call.data[3]],
        within,
        reserved: 0,
    };
    emit(probe, Kind::Step, &call, inflight::now(), body);
    let Some(spec) = STEPS.get(u32::from(probe.index())) else { return 0 };
    if spec.captures & moment::STEP_EXIT != 0 {
        capture::run(&ctx, moment::STEP_EXIT, &call);
    }
    0
}
