// SPDX-License-Identifier: GPL-2.0-only
/*
 * hisi_sim: what the queue manager does on its own.
 *
 * Registers are plain memory, so nothing happens when a driver writes one. But whenever a driver
 * waits for the hardware, it asks for the time first, to know when its patience (1 ms) ends, and
 * that question has a probe: there all that was asked for is done, so that its first look finds
 * it, however long this processor gets no time afterwards. At the sleep between two looks it would
 * be too late for a driver that is not run between the question and its first look; a thread that
 * polls from the other side would be late by context switches.
 */

#include <linux/kprobes.h>
#include <linux/pgtable.h>

#include "hisi_sim.h"

/* What of a PF is used besides its beginning: two pages. */
#define SIM_PF_QM		0x100000
#define SIM_PF_CORE		0x301000

#define SIM_MB_STATUS_SHIFT	9
#define SIM_MB_CMD_PAUSE	0xe

static u32 sim_get(struct sim_func *func, u32 at)
{
	return readl(func->regs + at);
}

static void sim_set(struct sim_func *func, u32 at, u32 value)
{
	writel(value, func->regs + at);
}

static void sim_set64(struct sim_func *func, u32 low, u32 high, u64 value)
{
	sim_set(func, low, lower_32_bits(value));
	sim_set(func, high, upper_32_bits(value));
}

/* After power-on and after an FLR. Faults are not the function's own and stay. */
void sim_func_reset(struct sim_func *func)
{
	memset_io(func->regs, 0, min_t(size_t, func->len, SIM_VF_BAR));
	func->sqc = 0;
	func->cqc = 0;
	func->paused = false;
	func->stuck_logged = false;
	if (sim_is_vf(func)) {
		sim_set(func, QM_VF_STATE, QM_NOT_READY);
		return;
	}
	memset_io(func->regs + SIM_PF_QM, 0, SZ_4K);
	memset_io(func->regs + SIM_PF_CORE, 0, SZ_4K);
	sim_set(func, SIM_VFT_READY, 1);
}

/* What a guest's driver leaves in the registers; the seed makes one guest differ from another. */
void sim_guest_load(struct sim_func *func, u32 seed)
{
	u64 dma = (u64)seed << 32;
	unsigned int i;

	for (i = 0; i < 7; i++) {
		sim_set(func, SIM_EQC + 4 * i, seed << 16 | 0xe0 | i);
		sim_set(func, SIM_AEQC + 4 * i, seed << 16 | 0xa0 | i);
	}
	sim_set64(func, SIM_EQC + 4, SIM_EQC + 8, dma + 0x10000);
	sim_set64(func, SIM_AEQC + 4, SIM_AEQC + 8, dma + 0x20000);
	func->sqc = dma + 0x30000;
	func->cqc = dma + 0x40000;
	sim_set(func, SIM_IFC_INT_MASK, 0);
	sim_set(func, SIM_PAGE_SIZE, 1);
	sim_set(func, QM_VF_STATE, QM_READY);
}

void sim_guest_unload(struct sim_func *func)
{
	sim_set(func, QM_VF_STATE, QM_NOT_READY);
}

/* The queues of a function, as its mailbox and the PF's window tell them. */
static u64 sim_queues(const struct sim_func *func)
{
	return (u64)func->qp_base << 28 | (u64)(func->qp_num - 1) << 45;
}

static bool sim_hits(int fault, u8 cmd)
{
	return fault == SIM_ANY || fault == cmd;
}

static void sim_note(struct sim_func *func, u16 word, u64 base, u8 status, bool stuck)
{
	struct sim_command *entry = &func->log[func->logged++ % SIM_LOG];

	*entry = (struct sim_command) {
		.word = word, .base = base, .status = status, .stuck = stuck,
	};
}

static void sim_mailbox(struct sim_func *func)
{
	u32 word = sim_get(func, QM_MB_CMD_SEND_BASE);
	u64 base = sim_get(func, QM_MB_CMD_DATA_ADDR_L) |
		   (u64)sim_get(func, QM_MB_CMD_DATA_ADDR_H) << 32;
	bool get = word & BIT(QM_MB_OP_SHIFT);
	u8 cmd = word & 0xff, status = 0;

	if (!(word & BIT(QM_MB_BUSY_SHIFT)))
		return;
	if (sim_hits(func->mb_stuck, cmd)) {
		if (!func->stuck_logged)
			sim_note(func, word, base, 0, true);
		func->stuck_logged = true;
		return;
	}
	func->stuck_logged = false;
	if (sim_hits(func->mb_status, cmd)) {
		status = 1;
		goto done;
	}
	switch (cmd) {
	case QM_MB_CMD_SQC_BT:
		if (get)
			base = func->sqc;
		else
			func->sqc = base;
		break;
	case QM_MB_CMD_CQC_BT:
		if (get)
			base = func->cqc;
		else
			func->cqc = base;
		break;
	case QM_MB_CMD_SQC_VFT_V2:
		base = sim_queues(func);
		break;
	case SIM_MB_CMD_PAUSE:
		func->paused = true;
		break;
	}
	if (get)
		sim_set64(func, QM_MB_CMD_DATA_ADDR_L, QM_MB_CMD_DATA_ADDR_H, base);
done:
	sim_note(func, word, base, status, false);
	word &= ~(BIT(QM_MB_BUSY_SHIFT) | GENMASK(12, SIM_MB_STATUS_SHIFT));
	sim_set(func, QM_MB_CMD_SEND_BASE, word | status << SIM_MB_STATUS_SHIFT);
}

static void sim_cache(struct sim_func *func)
{
	if (!(sim_get(func, SIM_CACHE_WB_START) & 1))
		return;
	if (func->cache_wb)
		return;
	sim_set(func, SIM_CACHE_WB_START, 0);
	sim_set(func, SIM_CACHE_WB_DONE, 1);
}

static void sim_window_op(struct sim_func *pf)
{
	u32 number = sim_get(pf, SIM_VFT_FUNCTION);

	if (!(sim_get(pf, SIM_VFT_OP_ENABLE) & 1) || pf->vft)
		return;
	if (number < SIM_FUNCS)
		sim_set64(pf, SIM_VFT_DATA_L, SIM_VFT_DATA_H,
			  sim_queues(&pf->pf->func[number]));
	sim_set(pf, SIM_VFT_OP_ENABLE, 0);
	sim_set(pf, SIM_VFT_READY, 1);
}

/* Of all that ask for the time, drivers: where the caller returns to is on top of the stack. */
static bool sim_asked_by_module(struct pt_regs *regs)
{
	unsigned long caller = *(unsigned long *)regs->sp;

	return caller >= MODULES_VADDR && caller < MODULES_END;
}

static int sim_asked(struct kprobe *probe, struct pt_regs *regs)
{
	unsigned long flags;
	unsigned int i, j;

	if (!sim_asked_by_module(regs))
		return 0;
	raw_spin_lock_irqsave(&sim_lock, flags);
	for (i = 0; i < SIM_PFS; i++) {
		for (j = 0; j < SIM_FUNCS; j++) {
			sim_mailbox(&sim_pfs[i].func[j]);
			sim_cache(&sim_pfs[i].func[j]);
		}
		sim_window_op(&sim_pfs[i].func[0]);
	}
	raw_spin_unlock_irqrestore(&sim_lock, flags);
	return 0;
}

static struct kprobe sim_probe = {
	.symbol_name = "ktime_get",
	.pre_handler = sim_asked,
};

int sim_engine_start(void)
{
	int ret = register_kprobe(&sim_probe);

	if (ret)
		pr_err("cannot probe %s: %d\n", sim_probe.symbol_name, ret);
	return ret;
}

void sim_engine_stop(void)
{
	unregister_kprobe(&sim_probe);
}
