// SPDX-License-Identifier: GPL-2.0-only
/* hisi_sim: the functions' configuration space: header, PCI Express, SR-IOV; and FLR. */

#include <linux/unaligned.h>

#include "hisi_sim.h"

#define SIM_EXP		0x40
#define SIM_SRIOV	0x100
#define SIM_BAR2	(PCI_BASE_ADDRESS_0 + 8)
#define SIM_VF_BAR2	(SIM_SRIOV + PCI_SRIOV_BAR + 8)

static void sim_put16(u8 *space, unsigned int at, u16 value)
{
	put_unaligned_le16(value, space + at);
}

static void sim_put32(u8 *space, unsigned int at, u32 value)
{
	put_unaligned_le32(value, space + at);
}

/* A BAR tells its size by the address bits that do not stick. */
static void sim_put_bar(struct sim_func *func, unsigned int at, u32 address, u32 size)
{
	sim_put32(func->config, at, address | PCI_BASE_ADDRESS_SPACE_MEMORY);
	sim_put32(func->settable, at, ~(size - 1));
}

static void sim_put_sriov(struct sim_func *func, u32 vf_bars)
{
	u8 *config = func->config, *settable = func->settable;

	sim_put32(config, SIM_SRIOV, PCI_EXT_CAP_ID_SRIOV | 1 << 16);
	sim_put16(settable, SIM_SRIOV + PCI_SRIOV_CTRL, PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE);
	sim_put16(config, SIM_SRIOV + PCI_SRIOV_INITIAL_VF, SIM_VFS);
	sim_put16(config, SIM_SRIOV + PCI_SRIOV_TOTAL_VF, SIM_VFS);
	sim_put16(settable, SIM_SRIOV + PCI_SRIOV_NUM_VF, 0xffff);
	sim_put16(config, SIM_SRIOV + PCI_SRIOV_VF_OFFSET, 1);
	sim_put16(config, SIM_SRIOV + PCI_SRIOV_VF_STRIDE, 1);
	sim_put16(config, SIM_SRIOV + PCI_SRIOV_VF_DID, func->pf->kind->vf_id);
	/* Pages of 4 KiB only. */
	sim_put32(config, SIM_SRIOV + PCI_SRIOV_SUP_PGSIZE, 1);
	sim_put32(config, SIM_SRIOV + PCI_SRIOV_SYS_PGSIZE, 1);
	sim_put_bar(func, SIM_VF_BAR2, vf_bars, SIM_VF_BAR);
}

void sim_config_init(struct sim_func *func, phys_addr_t bar, phys_addr_t vf_bars)
{
	const struct sim_kind *kind = func->pf->kind;
	u8 *config = func->config, *settable = func->settable;

	/* A VF's ids are in its PF's SR-IOV capability; its own read as ones. */
	sim_put16(config, PCI_VENDOR_ID, sim_is_vf(func) ? 0xffff : PCI_VENDOR_ID_HUAWEI);
	sim_put16(config, PCI_DEVICE_ID, sim_is_vf(func) ? 0xffff : kind->pf_id);
	sim_put16(settable, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
		  PCI_COMMAND_INTX_DISABLE);
	sim_put16(config, PCI_STATUS, PCI_STATUS_CAP_LIST);
	config[PCI_REVISION_ID] = QM_HW_V3;
	config[PCI_CLASS_DEVICE + 1] = kind->class;
	settable[PCI_CACHE_LINE_SIZE] = 0xff;
	settable[PCI_LATENCY_TIMER] = 0xff;
	settable[PCI_INTERRUPT_LINE] = 0xff;
	config[PCI_CAPABILITY_LIST] = SIM_EXP;

	config[SIM_EXP] = PCI_CAP_ID_EXP;
	sim_put16(config, SIM_EXP + PCI_EXP_FLAGS, PCI_EXP_TYPE_RC_END << 4 | 2);
	sim_put32(config, SIM_EXP + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_FLR | PCI_EXP_DEVCAP_RBER);
	sim_put16(settable, SIM_EXP + PCI_EXP_DEVCTL, 0x7fff);
	sim_put16(settable, SIM_EXP + PCI_EXP_DEVCTL2, 0xffff);

	if (sim_is_vf(func))
		return;
	sim_put_bar(func, SIM_BAR2, bar, SIM_PF_BAR);
	sim_put_sriov(func, vf_bars);
}

/* A VF is there once its PF enabled it. */
static struct sim_func *sim_find(unsigned int devfn)
{
	unsigned int slot = PCI_SLOT(devfn), number = PCI_FUNC(devfn);
	u8 *pf;

	if (slot >= SIM_PFS || number >= SIM_FUNCS)
		return NULL;
	pf = sim_pfs[slot].func[0].config;
	if (number && (!(pf[SIM_SRIOV + PCI_SRIOV_CTRL] & PCI_SRIOV_CTRL_VFE) ||
		       number > get_unaligned_le16(pf + SIM_SRIOV + PCI_SRIOV_NUM_VF)))
		return NULL;
	return &sim_pfs[slot].func[number];
}

static int sim_config_read(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *value)
{
	struct sim_func *func = sim_find(devfn);
	unsigned long flags;
	int i;

	if (!func) {
		PCI_SET_ERROR_RESPONSE(value);
		return PCIBIOS_DEVICE_NOT_FOUND;
	}
	*value = 0;
	raw_spin_lock_irqsave(&sim_lock, flags);
	for (i = 0; i < size && where + i < SIM_CONFIG; i++)
		*value |= func->config[where + i] << (8 * i);
	raw_spin_unlock_irqrestore(&sim_lock, flags);
	return PCIBIOS_SUCCESSFUL;
}

static int sim_config_write(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 value)
{
	struct sim_func *func = sim_find(devfn);
	unsigned long flags;
	int i;

	if (!func)
		return PCIBIOS_DEVICE_NOT_FOUND;
	raw_spin_lock_irqsave(&sim_lock, flags);
	for (i = 0; i < size && where + i < SIM_CONFIG; i++) {
		u8 mask = func->settable[where + i];
		u8 byte = value >> (8 * i);

		func->config[where + i] = (func->config[where + i] & ~mask) | (byte & mask);
		/* The bit that starts an FLR; it always reads as 0. */
		if (where + i == SIM_EXP + PCI_EXP_DEVCTL + 1 &&
		    byte & (PCI_EXP_DEVCTL_BCR_FLR >> 8)) {
			sim_func_reset(func);
			func->flrs++;
		}
	}
	raw_spin_unlock_irqrestore(&sim_lock, flags);
	return PCIBIOS_SUCCESSFUL;
}

struct pci_ops sim_config_ops = {
	.read = sim_config_read,
	.write = sim_config_write,
};
