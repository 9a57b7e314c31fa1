// SPDX-License-Identifier: GPL-2.0-only
/*
 * hisi_sim: in the place of hisi_zip, hisi_sec2 and hisi_hpre: drivers of the PFs that set up no
 * queues, but have what hisi_acc_vfio_pci asks the PF's driver for.
 */

#include <linux/module.h>

#include "hisi_sim.h"

static int sim_pf_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct sim_pf *pf = &sim_pfs[PCI_SLOT(pdev->devfn)];
	struct hisi_qm *qm = &pf->qm;
	int ret;

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	qm->io_base = pcim_iomap(pdev, 2, 0);
	if (!qm->io_base)
		return -ENOMEM;
	qm->ver = pdev->revision;
	qm->fun_type = QM_HW_PF;
	qm->dev_name = pf->kind->name;
	qm->pdev = pdev;
	qm->err_ini = &pf->err_ini;
	mutex_init(&qm->mailbox_lock);
	pci_set_drvdata(pdev, qm);
	return 0;
}

static void sim_pf_remove(struct pci_dev *pdev)
{
	pci_disable_sriov(pdev);
}

static const struct pci_device_id sim_zip_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_HUAWEI, SIM_ZIP_PF) },
	{ }
};

static const struct pci_device_id sim_sec_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_HUAWEI, SIM_SEC_PF) },
	{ }
};

static const struct pci_device_id sim_hpre_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_HUAWEI, SIM_HPRE_PF) },
	{ }
};

#define SIM_DRIVER(kind) {				\
	.name = "hisi_sim_" #kind,			\
	.id_table = sim_##kind##_ids,			\
	.probe = sim_pf_probe,				\
	.remove = sim_pf_remove,			\
	.sriov_configure = pci_sriov_configure_simple,	\
}

static struct pci_driver sim_zip = SIM_DRIVER(zip);
static struct pci_driver sim_sec = SIM_DRIVER(sec);
static struct pci_driver sim_hpre = SIM_DRIVER(hpre);

struct pci_driver *hisi_zip_get_pf_driver(void)
{
	return &sim_zip;
}
EXPORT_SYMBOL_GPL(hisi_zip_get_pf_driver);

struct pci_driver *hisi_sec_get_pf_driver(void)
{
	return &sim_sec;
}
EXPORT_SYMBOL_GPL(hisi_sec_get_pf_driver);

struct pci_driver *hisi_hpre_get_pf_driver(void)
{
	return &sim_hpre;
}
EXPORT_SYMBOL_GPL(hisi_hpre_get_pf_driver);

int sim_drivers_register(void)
{
	int ret;

	ret = pci_register_driver(&sim_zip);
	if (ret)
		return ret;
	ret = pci_register_driver(&sim_sec);
	if (ret)
		goto err_zip;
	ret = pci_register_driver(&sim_hpre);
	if (ret)
		goto err_sec;
	return 0;

err_sec:
	pci_unregister_driver(&sim_sec);
err_zip:
	pci_unregister_driver(&sim_zip);
	return ret;
}

void sim_drivers_unregister(void)
{
	pci_unregister_driver(&sim_hpre);
	pci_unregister_driver(&sim_sec);
	pci_unregister_driver(&sim_zip);
}
