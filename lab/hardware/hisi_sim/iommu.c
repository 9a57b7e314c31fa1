// SPDX-License-Identifier: GPL-2.0-only
/*
 * hisi_sim: an IOMMU, as VFIO gives devices without one to nobody. It remembers what is mapped
 * and translates nothing, as nothing here does DMA.
 */

#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "hisi_sim.h"

struct sim_domain {
	struct iommu_domain domain;
	/* Physical page numbers by virtual ones. */
	struct xarray pages;
};

static struct iommu_device sim_iommu;

static struct sim_domain *sim_domain_of(struct iommu_domain *domain)
{
	return container_of(domain, struct sim_domain, domain);
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
static int sim_attach(struct iommu_domain *domain, struct device *dev, struct iommu_domain *old)
{
	return 0;
}
#else
static int sim_attach(struct iommu_domain *domain, struct device *dev)
{
	return 0;
}
#endif

static int sim_map(struct iommu_domain *domain, unsigned long iova, phys_addr_t paddr,
		   size_t pgsize, size_t pgcount, int prot, gfp_t gfp, size_t *mapped)
{
	struct xarray *pages = &sim_domain_of(domain)->pages;
	size_t i, count = pgsize / SZ_4K * pgcount;

	for (i = 0; i < count; i++) {
		int ret = xa_err(xa_store(pages, iova / SZ_4K + i,
					  xa_mk_value(paddr / SZ_4K + i), gfp));

		if (ret)
			return ret;
		*mapped += SZ_4K;
	}
	return 0;
}

static size_t sim_unmap(struct iommu_domain *domain, unsigned long iova, size_t pgsize,
			size_t pgcount, struct iommu_iotlb_gather *gather)
{
	struct xarray *pages = &sim_domain_of(domain)->pages;
	size_t i, count = pgsize / SZ_4K * pgcount;

	for (i = 0; i < count; i++)
		xa_erase(pages, iova / SZ_4K + i);
	return count * SZ_4K;
}

static phys_addr_t sim_translate(struct iommu_domain *domain, dma_addr_t iova)
{
	void *entry = xa_load(&sim_domain_of(domain)->pages, iova / SZ_4K);

	return entry ? (phys_addr_t)xa_to_value(entry) * SZ_4K + iova % SZ_4K : 0;
}

static bool sim_enforce_coherency(struct iommu_domain *domain)
{
	return true;
}

static void sim_domain_free(struct iommu_domain *domain)
{
	xa_destroy(&sim_domain_of(domain)->pages);
	kfree(sim_domain_of(domain));
}

static const struct iommu_domain_ops sim_paging_ops = {
	.attach_dev = sim_attach,
	.map_pages = sim_map,
	.unmap_pages = sim_unmap,
	.iova_to_phys = sim_translate,
	.enforce_cache_coherency = sim_enforce_coherency,
	.free = sim_domain_free,
};

static const struct iommu_domain_ops sim_fixed_ops = {
	.attach_dev = sim_attach,
};

static struct iommu_domain sim_identity = {
	.type = IOMMU_DOMAIN_IDENTITY,
	.ops = &sim_fixed_ops,
};

static struct iommu_domain sim_blocked = {
	.type = IOMMU_DOMAIN_BLOCKED,
	.ops = &sim_fixed_ops,
};

static struct iommu_domain *sim_domain_alloc(struct device *dev)
{
	struct sim_domain *domain = kzalloc(sizeof(*domain), GFP_KERNEL);

	if (!domain)
		return NULL;
	xa_init(&domain->pages);
	domain->domain.pgsize_bitmap = SZ_4K;
	domain->domain.geometry.aperture_end = DMA_BIT_MASK(48);
	domain->domain.geometry.force_aperture = true;
	return &domain->domain;
}

static bool sim_capable(struct device *dev, enum iommu_cap cap)
{
	return cap == IOMMU_CAP_CACHE_COHERENCY || cap == IOMMU_CAP_ENFORCE_CACHE_COHERENCY;
}

/* The kernel offers all devices; only those on our bus are taken. */
static struct iommu_device *sim_probe_device(struct device *dev)
{
	if (!dev_is_pci(dev) || pci_domain_nr(to_pci_dev(dev)->bus) != SIM_DOMAIN)
		return ERR_PTR(-ENODEV);
	return &sim_iommu;
}

static int sim_default_type(struct device *dev)
{
	return IOMMU_DOMAIN_IDENTITY;
}

static const struct iommu_ops sim_iommu_ops = {
	.capable = sim_capable,
	.domain_alloc_paging = sim_domain_alloc,
	.probe_device = sim_probe_device,
	/* Each function alone in its group. */
	.device_group = generic_device_group,
	.def_domain_type = sim_default_type,
	.default_domain_ops = &sim_paging_ops,
	.identity_domain = &sim_identity,
	.blocked_domain = &sim_blocked,
	.owner = THIS_MODULE,
};

int sim_iommu_start(struct device *parent)
{
	int ret = iommu_device_sysfs_add(&sim_iommu, parent, NULL, "hisi_sim");

	if (ret)
		return ret;
	ret = iommu_device_register(&sim_iommu, &sim_iommu_ops, NULL);
	if (ret)
		iommu_device_sysfs_remove(&sim_iommu);
	return ret;
}

void sim_iommu_stop(void)
{
	iommu_device_unregister(&sim_iommu);
	iommu_device_sysfs_remove(&sim_iommu);
}
