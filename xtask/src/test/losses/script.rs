//! Shell scripts for the guest: floods, stopped readers, crowds, calls within calls.

/// A device; and two tracers: `trace NAME OPTIONS` begins, `traced NAME` ends, both keep what the driver has counted.
const BEGIN: &str = r#"
some() { [ -s $1 ]; }
counted() { cat /sys/bus/mdev/devices/$dev/quayside/where >$1; }
trace() {
    name=$1; shift
    vfio-trace record -o $name.vft "$@" >$name.out 2>$name.rec.err & rec=$!
    vfio-trace tail --format ndjson "$@" >$name.ndjson 2>$name.err & tail=$!
    all="$all $rec $tail"
    await recorder some $name.vft && await tail some $name.ndjson && sleep 0.5 && counted $name.before
}
traced() {
    counted $name.after; sleep 1; kill -INT $rec $tail; wait $rec && wait $tail && all= && chmod a+r $name.vft
}
modprobe quayside && mdevs quayside-full 91 91 || return 1
dev=$(device 91)
"#;

/// Reads of 64 bytes, in a session. 6.1 has no MIG_DATA_SIZE.
fn save(series: &str) -> String {
    let size = if series == "6.1" { "" } else { "size" };
    format!("set=STOP_COPY read-all=/run/part/image:64 {size} set=STOP set=RUNNING")
}

/// `$steps`: sessions and requests.
fn steps(series: &str) -> String {
    let save = save(series);
    format!(
        "gets=$(yes get | head -300 | tr '\\n' ' ')\n\
         steps=\"knob=state_bytes:96K {save} $gets {save} $gets\"\n"
    )
}

/// Against a small buffer.
pub(super) fn flood(series: &str) -> String {
    format!(
        "{BEGIN}{}\
         trace flood --buffer 4K && lab-step --device $dev $steps >flood.steps && traced\n",
        steps(series)
    )
}

/// Against readers that stand still, with a larger one.
pub(super) fn stopped(series: &str) -> String {
    format!(
        "{BEGIN}{}\
         trace stopped --buffer 16K && kill -STOP $rec $tail || return 1\n\
         lab-step --device $dev $steps >stopped.steps; code=$?\n\
         kill -CONT $rec $tail; [ $code = 0 ] && sleep 1 || return 1\n\
         lab-step --device $dev {} >>stopped.steps && traced\n",
        steps(series),
        save(series)
    )
}

/// Threads that wait in one function, most of them without a return probe; and each of them comes again.
pub(super) fn crowd() -> String {
    format!(
        "{BEGIN}\
         trace crowd && lab-step --device $dev 'knob=delay_us:RUNNING_P2P STOP 3000000' crowd=STOP:80 \
           knob=delay_us:clear get get set=STOP_COPY read-all set=STOP set=RUNNING get >crowd.steps && traced\n"
    )
}

/// Reads that call themselves.
pub(super) fn nested() -> String {
    format!(
        "{BEGIN}\
         trace nested && lab-step --device $dev set=STOP_COPY read=64 knob=nested:1 read-all=/run/part/image:4K \
           knob=nested:0 set=STOP set=RUNNING >nested.steps && traced\n"
    )
}
