// SPDX-License-Identifier: GPL-2.0-only
/*
 * hisi_qm for kernels whose own one can only read the mailbox of an arm64 machine: the three
 * functions that hisi_acc_vfio_pci calls, with the timeouts and errnos of the original, on
 * hisi_sim's mailbox. Nothing else of a queue manager is here.
 */

#include <linux/bitfield.h>
#include <linux/hisi_acc_qm.h>
#include <linux/iopoll.h>
#include <linux/module.h>

#define MB_STATUS	GENMASK(12, 9)
#define MB_POLL_US	10
/* The first wait is for a mailbox that should be idle, the second for the command itself. */
#define MB_IDLE_US	1000
#define MB_DONE_US	USEC_PER_SEC

static bool mb_busy(u32 word)
{
	return word & BIT(QM_MB_BUSY_SHIFT);
}

static u32 mb_word(struct hisi_qm *qm)
{
	return readl(qm->io_base + QM_MB_CMD_SEND_BASE);
}

/* The original sleeps before each look, the first one included. */
static int mb_wait(struct hisi_qm *qm, u32 *word, u32 us)
{
	return read_poll_timeout(mb_word, *word, !mb_busy(*word), MB_POLL_US, us, true, qm);
}

int hisi_qm_wait_mb_ready(struct hisi_qm *qm)
{
	u32 word;
	int ret = mb_wait(qm, &word, MB_IDLE_US);

	if (ret)
		dev_err(&qm->pdev->dev, "mailbox is not idle\n");
	return ret;
}
EXPORT_SYMBOL_GPL(hisi_qm_wait_mb_ready);

static int mb_command(struct hisi_qm *qm, u8 cmd, u64 base, u16 queue, bool get, u64 *answer)
{
	u32 word = cmd | get << QM_MB_OP_SHIFT | BIT(QM_MB_BUSY_SHIFT) | (u32)queue << 16;
	void __iomem *mailbox = qm->io_base;
	int ret;

	ret = hisi_qm_wait_mb_ready(qm);
	if (ret)
		goto out;
	writel(lower_32_bits(base), mailbox + QM_MB_CMD_DATA_ADDR_L);
	writel(upper_32_bits(base), mailbox + QM_MB_CMD_DATA_ADDR_H);
	/* Last: it starts the command. */
	writel(word, mailbox + QM_MB_CMD_SEND_BASE);
	ret = mb_wait(qm, &word, MB_DONE_US);
	if (ret) {
		dev_err(&qm->pdev->dev, "mailbox command %#x does not end\n", cmd);
		goto out;
	}
	if (word & MB_STATUS) {
		dev_err(&qm->pdev->dev, "mailbox command %#x failed: status %lu\n", cmd,
			FIELD_GET(MB_STATUS, word));
		ret = -EIO;
		goto out;
	}
	if (answer)
		*answer = readl(mailbox + QM_MB_CMD_DATA_ADDR_L) |
			  (u64)readl(mailbox + QM_MB_CMD_DATA_ADDR_H) << 32;
out:
	if (ret)
		atomic64_inc(&qm->debug.dfx.mb_err_cnt);
	return ret;
}

int hisi_qm_mb(struct hisi_qm *qm, u8 cmd, dma_addr_t dma_addr, u16 queue, bool op)
{
	int ret;

	mutex_lock(&qm->mailbox_lock);
	ret = mb_command(qm, cmd, dma_addr, queue, op, NULL);
	mutex_unlock(&qm->mailbox_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(hisi_qm_mb);

int hisi_qm_mb_read(struct hisi_qm *qm, u64 *base, u8 cmd, u16 queue)
{
	int ret;

	mutex_lock(&qm->mailbox_lock);
	ret = mb_command(qm, cmd, 0, queue, true, base);
	mutex_unlock(&qm->mailbox_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(hisi_qm_mb_read);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("The queue manager's mailbox, on simulated hardware");
MODULE_AUTHOR("vfio-trace");
