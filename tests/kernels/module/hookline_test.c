// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module for tests in guests. Who writes to /dev/hookline_test gets root's user ids: "commit" in the kernel's own way,
 * "overwrite" as an exploit does, in the credentials that the thread has. With refuse=1 its start fails with EIO.
 */

#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

static bool refuse;
module_param(refuse, bool, 0);

static void make_root(struct cred *cred)
{
	cred->uid = cred->euid = cred->suid = cred->fsuid = GLOBAL_ROOT_UID;
}

static ssize_t act(struct file *file, const char __user *how, size_t length, loff_t *at)
{
	struct cred *fresh;
	char first;

	if (get_user(first, how))
		return -EFAULT;
	if (first == 'o') {
		make_root((struct cred *)current_cred());
		return length;
	}
	fresh = prepare_creds();
	if (!fresh)
		return -ENOMEM;
	make_root(fresh);
	commit_creds(fresh);
	return length;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.write = act,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "hookline_test",
	.fops = &operations,
	.mode = 0666,
};

static int __init begin(void)
{
	return refuse ? -EIO : misc_register(&device);
}

static void __exit end(void)
{
	misc_deregister(&device);
}

module_init(begin);
module_exit(end);
MODULE_DESCRIPTION("Hookline's tests");
MODULE_LICENSE("GPL");
