/* SPDX-License-Identifier: GPL-2.0-only */
/* hisi_sim: what its parts share. main.c tells what it is for. */

#ifndef HISI_SIM_H
#define HISI_SIM_H

#undef pr_fmt
#define pr_fmt(fmt) "hisi_sim: " fmt

#include <linux/hisi_acc_qm.h>
#include <linux/io.h>
#include <linux/pci.h>
#include <linux/printk.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/version.h>

#define SIM_DOMAIN	0x1000
#define SIM_BUS		0x75

#define SIM_PFS		3
#define SIM_VFS		7
#define SIM_FUNCS	(1 + SIM_VFS)

/* BAR 2 holds all registers. The second half of a VF's is for the host only. */
#define SIM_PF_BAR	SZ_4M
#define SIM_VF_BAR	SZ_64K

#define SIM_ZIP_PF	0xa250
#define SIM_SEC_PF	0xa255
#define SIM_HPRE_PF	0xa258

/* Registers of a queue manager that hisi_acc_qm.h does not have. */
#define SIM_IFC_INT_MASK	0x24
#define SIM_IFC_INT_STATUS	0x28
#define SIM_PAGE_SIZE		0x34
#define SIM_CACHE_WB_START	0x204
#define SIM_CACHE_WB_DONE	0x208
#define SIM_EQC			0x8000
#define SIM_AEQC		0x8020
/* Of the PF: its errors, and the window through which it sees its functions' queues. */
#define SIM_RAS_STATUS		0x100008
#define SIM_VFT_OP_ENABLE	0x100054
#define SIM_VFT_FUNCTION	0x100060
#define SIM_VFT_DATA_L		0x100064
#define SIM_VFT_DATA_H		0x100068
#define SIM_VFT_READY		0x10006c

/* Everything above reads as zero. */
#define SIM_CONFIG	0x140

/* Mailbox commands in a function's memory. */
#define SIM_LOG		64

/* A fault that is for one mailbox command only, for all, or off. */
#define SIM_ANY		(-1)
#define SIM_OFF		(-2)

struct sim_pf;

struct sim_command {
	u64 base;
	u16 word;
	u8 status;
	bool stuck;
};

/* A PCI function. */
struct sim_func {
	struct sim_pf *pf;
	/* 0 is the PF. */
	unsigned int number;
	unsigned int devfn;
	u8 config[SIM_CONFIG];
	/* Bits that software can change. */
	u8 settable[SIM_CONFIG];
	void __iomem *regs;
	size_t len;

	/* What the queue manager keeps besides its registers. */
	u64 sqc;
	u64 cqc;
	bool paused;
	u32 qp_base;
	u32 qp_num;

	/* Faults. */
	int mb_status;
	int mb_stuck;
	bool cache_wb;
	bool vft;

	/* For "commands", "state" and "reg". */
	struct sim_command log[SIM_LOG];
	unsigned int logged;
	bool stuck_logged;
	unsigned int flrs;
	u32 selected;
};

/* What tells the three accelerators apart. */
struct sim_kind {
	const char *name;
	u16 pf_id;
	u16 vf_id;
	u8 class;
	/* Where the driver looks for the accelerator's own errors. */
	u32 core_int;
};

struct sim_pf {
	const struct sim_kind *kind;
	struct sim_func func[SIM_FUNCS];
	/* What the drivers of VFs expect as the PF's driver data. */
	struct hisi_qm qm;
	struct hisi_qm_err_ini err_ini;
};

/* Guards everything in all functions; taken in a kprobe. */
extern raw_spinlock_t sim_lock;
extern struct sim_pf sim_pfs[SIM_PFS];

/* config.c: configuration space */
extern struct pci_ops sim_config_ops;
void sim_config_init(struct sim_func *func, phys_addr_t bar, phys_addr_t vf_bars);

/* engine.c: registers */
void sim_func_reset(struct sim_func *func);
void sim_guest_load(struct sim_func *func, u32 seed);
void sim_guest_unload(struct sim_func *func);
int sim_engine_start(void);
void sim_engine_stop(void);

/* iommu.c */
int sim_iommu_start(struct device *parent);
void sim_iommu_stop(void);

/* pf.c: drivers of the PFs */
int sim_drivers_register(void);
void sim_drivers_unregister(void);

/* knobs.c: debugfs */
void sim_knobs_create(void);
void sim_knobs_remove(void);

static inline bool sim_is_vf(const struct sim_func *func)
{
	return func->number;
}

#endif
