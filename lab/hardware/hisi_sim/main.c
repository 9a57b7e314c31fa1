// SPDX-License-Identifier: GPL-2.0-only
/*
 * hisi_sim: HiSilicon accelerators (ZIP, SEC, HPRE) that exist only in memory, for vfio-trace's
 * lab: as much of their PCI functions and queue managers as the kernel's own unmodified driver
 * hisi_acc_vfio_pci needs to migrate their VFs.
 *
 *   1000:75:00.0 ZIP, 1000:75:01.0 SEC, 1000:75:02.0 HPRE, each with VFs .1 to .7 as soon as
 *   their number is written to the PF's sriov_numvfs
 *
 * The parts: a PCI host bridge of its own (here) with a configuration space in software
 * (config.c); BARs in real memory that the kernel was told to leave alone (memmap=32M$0x30000000,
 * parameters base and size), so that drivers map and read them as they do on hardware; the
 * steps that hardware does on its own (engine.c); an IOMMU, as VFIO wants one (iommu.c); the
 * drivers of the PFs, with the symbols that hisi_acc_vfio_pci asks for (pf.c); and knobs in
 * debugfs that set registers and make faults (knobs.c).
 *
 * There is no DMA, no interrupt and no accelerator: nothing is ever compressed.
 *
 * The IOMMU holds the module while its devices exist: to unload it, unload hisi_acc_vfio_pci,
 * then write 1 to each PF's "remove" in sysfs.
 */

#include <linux/ioport.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/platform_device.h>

#include "hisi_sim.h"

static unsigned long base = 0x30000000;
module_param(base, ulong, 0444);
MODULE_PARM_DESC(base, "address of memory that the kernel does not use");

static unsigned long size = SZ_32M;
module_param(size, ulong, 0444);
MODULE_PARM_DESC(size, "bytes of it");

/* From the base on. The first part stays empty: the window must be smaller than the memory. */
#define SIM_WINDOW		SZ_4M
#define SIM_VF_BARS		(SIM_WINDOW + SIM_PFS * SIM_PF_BAR)
#define SIM_VF_BARS_OF_PF	(SIM_FUNCS * SIM_VF_BAR)
#define SIM_WINDOW_END		(SIM_VF_BARS + SIM_PFS * SIM_VF_BARS_OF_PF)

static const struct sim_kind sim_kinds[SIM_PFS] = {
	{
		.name = "zip",
		.pf_id = SIM_ZIP_PF,
		.vf_id = PCI_DEVICE_ID_HUAWEI_ZIP_VF,
		.class = PCI_CLASS_ACCELERATOR_PROCESSING >> 8,
		.core_int = 0x3010ac,
	}, {
		.name = "sec",
		.pf_id = SIM_SEC_PF,
		.vf_id = PCI_DEVICE_ID_HUAWEI_SEC_VF,
		.class = PCI_BASE_CLASS_CRYPT,
		.core_int = 0x301008,
	}, {
		.name = "hpre",
		.pf_id = SIM_HPRE_PF,
		.vf_id = PCI_DEVICE_ID_HUAWEI_HPRE_VF,
		.class = PCI_BASE_CLASS_CRYPT,
		.core_int = 0x301800,
	},
};

struct sim_pf sim_pfs[SIM_PFS];
DEFINE_RAW_SPINLOCK(sim_lock);

static struct platform_device *sim_parent;
static struct pci_bus *sim_bus;
static void __iomem *sim_memory;

static struct pci_sysdata sim_sysdata = {
	.domain = SIM_DOMAIN,
	.node = NUMA_NO_NODE,
};

static struct resource sim_numbers = {
	.name = "hisi_sim bus",
	.start = SIM_BUS,
	.end = SIM_BUS,
	.flags = IORESOURCE_BUS,
};

static struct resource sim_window = {
	.name = "hisi_sim window",
	.flags = IORESOURCE_MEM,
};

static void sim_functions_init(void)
{
	unsigned int i, j;

	for (i = 0; i < SIM_PFS; i++) {
		struct sim_pf *pf = &sim_pfs[i];
		unsigned long pf_bar = SIM_WINDOW + i * SIM_PF_BAR;
		unsigned long vf_bars = SIM_VF_BARS + i * SIM_VF_BARS_OF_PF;

		pf->kind = &sim_kinds[i];
		for (j = 0; j < SIM_FUNCS; j++) {
			struct sim_func *func = &pf->func[j];

			func->pf = pf;
			func->number = j;
			func->devfn = PCI_DEVFN(i, j);
			func->len = j ? SIM_VF_BAR : SIM_PF_BAR;
			func->regs = sim_memory +
				     (j ? vf_bars + (j - 1) * SIM_VF_BAR : pf_bar);
			/* As the PF's driver would share the queues out. */
			func->qp_base = j * 64;
			func->qp_num = 64;
			func->mb_status = SIM_OFF;
			func->mb_stuck = SIM_OFF;
			sim_config_init(func, base + pf_bar, base + vf_bars);
			sim_func_reset(func);
		}
	}
}

static int sim_memory_map(void)
{
	if (size < SIM_WINDOW_END || !IS_ALIGNED(base, SIM_PF_BAR)) {
		pr_err("%lu bytes at %#lx do not do: %lu bytes are needed, aligned to %u\n", size,
		       base, (unsigned long)SIM_WINDOW_END, SIM_PF_BAR);
		return -EINVAL;
	}
	if (region_intersects(base, size, IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) !=
	    REGION_DISJOINT) {
		pr_err("the kernel itself uses the memory at %#lx: boot with memmap=%luM$%#lx\n",
		       base, size / SZ_1M, base);
		return -EBUSY;
	}
	/* As drivers map it: two kinds of mappings of one page would be refused. */
	sim_memory = ioremap(base, size);
	return sim_memory ? 0 : -ENOMEM;
}

static int sim_bus_scan(void)
{
	struct pci_host_bridge *bridge = pci_alloc_host_bridge(0);
	int ret;

	if (!bridge)
		return -ENOMEM;
	/* With a parent x86 does not look for an ACPI device. */
	bridge->dev.parent = &sim_parent->dev;
	bridge->sysdata = &sim_sysdata;
	bridge->ops = &sim_config_ops;
	bridge->busnr = SIM_BUS;
	pci_add_resource(&bridge->windows, &sim_numbers);
	pci_add_resource(&bridge->windows, &sim_window);

	pci_lock_rescan_remove();
	ret = pci_scan_root_bus_bridge(bridge);
	if (ret) {
		pci_unlock_rescan_remove();
		pci_free_host_bridge(bridge);
		return ret;
	}
	sim_bus = bridge->bus;
	/* The BARs are programmed: what is in them is taken, nothing is moved. */
	pci_bus_claim_resources(sim_bus);
	pci_bus_add_devices(sim_bus);
	pci_unlock_rescan_remove();
	return 0;
}

static int __init sim_init(void)
{
	int ret;

	ret = sim_memory_map();
	if (ret)
		return ret;
	sim_functions_init();
	/* Inside of what memmap= reserved: the window becomes its child. */
	sim_window.start = base + SIM_WINDOW;
	sim_window.end = base + SIM_WINDOW_END - 1;
	ret = insert_resource(&iomem_resource, &sim_window);
	if (ret)
		goto err_memory;
	sim_parent = platform_device_register_simple("hisi_sim", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(sim_parent)) {
		ret = PTR_ERR(sim_parent);
		goto err_window;
	}
	ret = sim_engine_start();
	if (ret)
		goto err_parent;
	/* Before the devices: they get their groups as they appear. */
	ret = sim_iommu_start(&sim_parent->dev);
	if (ret)
		goto err_engine;
	ret = sim_drivers_register();
	if (ret)
		goto err_iommu;
	ret = sim_bus_scan();
	if (ret)
		goto err_drivers;
	sim_knobs_create();
	return 0;

err_drivers:
	sim_drivers_unregister();
err_iommu:
	sim_iommu_stop();
err_engine:
	sim_engine_stop();
err_parent:
	platform_device_unregister(sim_parent);
err_window:
	remove_resource(&sim_window);
err_memory:
	iounmap(sim_memory);
	return ret;
}

static void __exit sim_exit(void)
{
	sim_knobs_remove();
	pci_lock_rescan_remove();
	pci_stop_root_bus(sim_bus);
	pci_remove_root_bus(sim_bus);
	pci_unlock_rescan_remove();
	sim_drivers_unregister();
	sim_iommu_stop();
	sim_engine_stop();
	platform_device_unregister(sim_parent);
	remove_resource(&sim_window);
	iounmap(sim_memory);
}

module_init(sim_init)
module_exit(sim_exit)

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("HiSilicon accelerators in memory, for tests of VFIO migration");
MODULE_AUTHOR("vfio-trace");
