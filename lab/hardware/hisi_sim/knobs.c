// SPDX-License-Identifier: GPL-2.0-only
/*
 * hisi_sim: knobs and witnesses, in /sys/kernel/debug/hisi_sim/BDF/ of each function:
 *
 *   guest     "SEED": as if a guest's driver was loaded in the VF, with registers and queue
 *             addresses made of the number; "off": as if it was unloaded. Opening the device
 *             resets the function, so this comes after opening.
 *   reg       "OFFSET VALUE" sets a register, "OFFSET" selects the one that reading shows
 *   fault     "mb-status [CMD]": the mailbox command, or any, ends with an error status
 *             "mb-stuck [CMD]": it never ends
 *             "mb-busy": neither does one that nobody remembers having sent
 *             "cache-wb": writing back the cache never ends
 *             "ifc": an interrupt between PF and VF is pending (VF only)
 *             "ras", "core": the queue manager, the accelerator reports an error (PF only)
 *             "vft": the window to the functions' queues never gets ready (PF only)
 *             "clear": none of these; a reset clears only the pending interrupts
 *   pf/       the PF's knobs (in a VF's folder)
 *   queues    "BASE COUNT"
 *   commands  the last 64 mailbox commands, oldest first: number, get or set, base, how it ended;
 *             writing anything empties it
 *   state     what the function keeps besides its registers
 *
 * Numbers are decimal or 0x hexadecimal.
 */

#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "hisi_sim.h"

static struct dentry *sim_root;

typedef int (*sim_setter)(struct sim_func *func, char *text);

/* Sets under the lock what was written. */
static ssize_t sim_written(struct file *file, const char __user *from, size_t len, sim_setter set)
{
	struct sim_func *func = ((struct seq_file *)file->private_data)->private;
	unsigned long flags;
	char text[64];
	int ret;

	if (len >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, len))
		return -EFAULT;
	text[len] = '\0';
	raw_spin_lock_irqsave(&sim_lock, flags);
	ret = set(func, strim(text));
	raw_spin_unlock_irqrestore(&sim_lock, flags);
	return ret ?: len;
}

static int sim_set_guest(struct sim_func *func, char *text)
{
	u32 seed;

	if (!sim_is_vf(func))
		return -EOPNOTSUPP;
	if (!strcmp(text, "off")) {
		sim_guest_unload(func);
		return 0;
	}
	if (kstrtou32(text, 0, &seed) || !seed)
		return -EINVAL;
	sim_guest_load(func, seed);
	return 0;
}

static int sim_show_guest(struct seq_file *seq, void *unused)
{
	struct sim_func *func = seq->private;

	seq_puts(seq, readl(func->regs + QM_VF_STATE) == QM_READY ? "on\n" : "off\n");
	return 0;
}

static int sim_set_reg(struct sim_func *func, char *text)
{
	char *offset = strsep(&text, " ");
	u32 at, value;

	if (kstrtou32(offset, 0, &at) || at % 4 || at >= func->len)
		return -EINVAL;
	if (!text) {
		func->selected = at;
		return 0;
	}
	if (kstrtou32(strim(text), 0, &value))
		return -EINVAL;
	writel(value, func->regs + at);
	func->selected = at;
	return 0;
}

static int sim_show_reg(struct seq_file *seq, void *unused)
{
	struct sim_func *func = seq->private;

	seq_printf(seq, "%#x %#x\n", func->selected, readl(func->regs + func->selected));
	return 0;
}

/* Faults that are a register's value, and where: one bit is enough. */
static int sim_raise(struct sim_func *func, const char *name, bool up)
{
	u32 at;

	if (!strcmp(name, "ifc"))
		at = SIM_IFC_INT_STATUS;
	else if (!strcmp(name, "ras"))
		at = SIM_RAS_STATUS;
	else if (!strcmp(name, "core"))
		at = func->pf->kind->core_int;
	else
		return -EINVAL;
	if (sim_is_vf(func) != (at < SIM_VF_BAR))
		return -EOPNOTSUPP;
	writel(up, func->regs + at);
	return 0;
}

static void sim_clear_faults(struct sim_func *func)
{
	func->mb_status = SIM_OFF;
	func->mb_stuck = SIM_OFF;
	func->cache_wb = false;
	func->vft = false;
	sim_raise(func, "ifc", false);
	sim_raise(func, "ras", false);
	sim_raise(func, "core", false);
}

static int sim_set_fault(struct sim_func *func, char *text)
{
	char *name = strsep(&text, " ");
	int cmd = SIM_ANY;

	if (text && (strncmp(name, "mb-", 3) || kstrtoint(strim(text), 0, &cmd) || cmd < 0 ||
		     cmd > 0xff))
		return -EINVAL;
	if (!strcmp(name, "mb-status")) {
		func->mb_status = cmd;
	} else if (!strcmp(name, "mb-stuck")) {
		func->mb_stuck = cmd;
	} else if (!strcmp(name, "mb-busy")) {
		func->mb_stuck = SIM_ANY;
		writel(BIT(QM_MB_BUSY_SHIFT), func->regs + QM_MB_CMD_SEND_BASE);
	} else if (!strcmp(name, "cache-wb")) {
		func->cache_wb = true;
		/* Nobody clears it but a reset; the next wait has to be a real one. */
		writel(0, func->regs + SIM_CACHE_WB_DONE);
	} else if (!strcmp(name, "vft")) {
		if (sim_is_vf(func))
			return -EOPNOTSUPP;
		func->vft = true;
	} else if (!strcmp(name, "clear")) {
		sim_clear_faults(func);
	} else {
		return sim_raise(func, name, true);
	}
	return 0;
}

static void sim_show_mb_fault(struct seq_file *seq, const char *name, int fault)
{
	if (fault == SIM_ANY)
		seq_printf(seq, "%s\n", name);
	else if (fault != SIM_OFF)
		seq_printf(seq, "%s %#x\n", name, fault);
}

static int sim_show_fault(struct seq_file *seq, void *unused)
{
	struct sim_func *func = seq->private;

	sim_show_mb_fault(seq, "mb-status", func->mb_status);
	sim_show_mb_fault(seq, "mb-stuck", func->mb_stuck);
	if (func->cache_wb)
		seq_puts(seq, "cache-wb\n");
	if (func->vft)
		seq_puts(seq, "vft\n");
	return 0;
}

static int sim_set_queues(struct sim_func *func, char *text)
{
	char *first = strsep(&text, " ");
	u32 base, count;

	if (!text || kstrtou32(first, 0, &base) || kstrtou32(strim(text), 0, &count) ||
	    base > 0xffff || !count || count > 1024)
		return -EINVAL;
	func->qp_base = base;
	func->qp_num = count;
	return 0;
}

static int sim_show_queues(struct seq_file *seq, void *unused)
{
	struct sim_func *func = seq->private;

	seq_printf(seq, "%u %u\n", func->qp_base, func->qp_num);
	return 0;
}

static int sim_set_commands(struct sim_func *func, char *text)
{
	func->logged = 0;
	return 0;
}

static int sim_show_commands(struct seq_file *seq, void *unused)
{
	struct sim_func *func = seq->private;
	unsigned int i = func->logged > SIM_LOG ? func->logged - SIM_LOG : 0;

	for (; i < func->logged; i++) {
		struct sim_command *entry = &func->log[i % SIM_LOG];

		seq_printf(seq, "%#x %s %#llx %s\n", entry->word & 0xff,
			   entry->word & BIT(QM_MB_OP_SHIFT) ? "get" : "set", entry->base,
			   entry->stuck ? "stuck" : entry->status ? "error" : "ok");
	}
	return 0;
}

static int sim_state_show(struct seq_file *seq, void *unused)
{
	struct sim_func *func = seq->private;

	seq_printf(seq, "guest %s\npaused %u\nsqc %#llx\ncqc %#llx\nflrs %u\n",
		   readl(func->regs + QM_VF_STATE) == QM_READY ? "on" : "off", func->paused,
		   func->sqc, func->cqc, func->flrs);
	return 0;
}

#define SIM_KNOB(knob)									\
static int sim_open_##knob(struct inode *inode, struct file *file)			\
{											\
	return single_open(file, sim_show_##knob, inode->i_private);			\
}											\
											\
static ssize_t sim_write_##knob(struct file *file, const char __user *from, size_t len,	\
				loff_t *pos)						\
{											\
	return sim_written(file, from, len, sim_set_##knob);				\
}											\
											\
static const struct file_operations sim_fops_##knob = {					\
	.owner = THIS_MODULE,								\
	.open = sim_open_##knob,							\
	.read = seq_read,								\
	.write = sim_write_##knob,							\
	.llseek = seq_lseek,								\
	.release = single_release,							\
}

SIM_KNOB(guest);
SIM_KNOB(reg);
SIM_KNOB(fault);
SIM_KNOB(queues);
SIM_KNOB(commands);
DEFINE_SHOW_ATTRIBUTE(sim_state);

void sim_knobs_create(void)
{
	struct sim_func *func;
	struct dentry *dir;
	unsigned int i, j;
	char name[16], target[24] = "";

	sim_root = debugfs_create_dir("hisi_sim", NULL);
	for (i = 0; i < SIM_PFS; i++) {
		for (j = 0; j < SIM_FUNCS; j++) {
			func = &sim_pfs[i].func[j];
			snprintf(name, sizeof(name), "%04x:%02x:%02x.%d", SIM_DOMAIN, SIM_BUS,
				 PCI_SLOT(func->devfn), PCI_FUNC(func->devfn));
			dir = debugfs_create_dir(name, sim_root);
			if (!j)
				snprintf(target, sizeof(target), "../%s", name);
			else
				debugfs_create_symlink("pf", dir, target);
			debugfs_create_file("guest", 0600, dir, func, &sim_fops_guest);
			debugfs_create_file("reg", 0600, dir, func, &sim_fops_reg);
			debugfs_create_file("fault", 0600, dir, func, &sim_fops_fault);
			debugfs_create_file("queues", 0600, dir, func, &sim_fops_queues);
			debugfs_create_file("commands", 0600, dir, func, &sim_fops_commands);
			debugfs_create_file("state", 0400, dir, func, &sim_state_fops);
		}
	}
}

void sim_knobs_remove(void)
{
	debugfs_remove(sim_root);
}
