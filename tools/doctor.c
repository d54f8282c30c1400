// SPDX-License-Identifier: GPL-2.0-only
/*
 * `gmemctl doctor`: looks at everything that has to be in order for gmemfd to work, from the kernel to the rights of
 * who asks, and tells of each thing how it is and what mends it. Changes nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libkmod.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "gmemctl.h"

#define RELOAD "modprobe -r gmemfd && modprobe gmemfd"
#define GROUP_CURE "chgrp kvm " GMEMFD_DEVICE " && chmod 0660 " GMEMFD_DEVICE " (for good: make install-system)"
/* If there is no ACL, a security module forbids it. */
#define ACL_CURE "setfacl -b " GMEMFD_DEVICE "; did that not help: journalctl -k -g 'avc|apparmor|denied'"
#define SECURE_BOOT "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

struct doctor_options {
	const char *root;
	const char *kernel;
};

const struct option_row doctor_options[] = {
	{ "root", "DIR", "look at the system below DIR: an image that is mounted there", OPT_DIR,
	  offsetof(struct doctor_options, root) },
	{ "kernel", "RELEASE", "look at what this kernel would meet (the one that runs)", OPT_STRING,
	  offsetof(struct doctor_options, kernel) },
	{}
};

enum state {
	GOOD,
	UNKNOWN,	/* cannot be told, or does not apply */
	WARN,		/* works, and may be meant otherwise */
	BAD,		/* in the way */
	ABSENT,		/* in the way: the module is not there, or not for this kernel */
};

static const char *const state_names[] = { "ok", "-", "warning", "bad", "bad" };

struct doctor {
	const char *root;
	const char *kernel;
	bool here;		/* the system that runs, and the kernel that runs */
	struct json_object *findings;
	enum state worst;
	/* What later findings depend on. */
	bool dkms_knows, dkms_built, built, loaded, enforced;
	char dkms_version[NAME_MAX + 1];	/* the one to build */
	char *signer, *srcversion;
	char *cure;
};

/* One finding; with what mends it, or NULL. */
__attribute__((format(printf, 5, 6)))
static void find(struct doctor *d, const char *what, enum state state, const char *cure, const char *fmt, ...)
{
	struct json_object *finding = json_new();
	char text[1024], *shown;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_string(finding, "what", what);
	json_string(finding, "state", state == UNKNOWN ? "unknown" : state_names[state]);
	json_string(finding, "text", text);
	json_string(finding, "cure", cure);
	json_object_array_add(d->findings, finding);
	if (state > d->worst)
		d->worst = state;
	if (common.json)
		return;
	shown = printable(text);
	printf("%-8s %-12s %s\n", state_names[state], what, shown);
	free(shown);
	if (cure)
		printf("%-21s -> %s\n", "", cure);
}

static char *path_of(const struct doctor *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static char *path_of(const struct doctor *d, const char *fmt, ...)
{
	char name[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);
	return xasprintf("%s%s", d->root, name);
}

static bool exists(const struct doctor *d, const char *name)
{
	char *path = path_of(d, "%s", name);
	bool there = !access(path, F_OK);

	free(path);
	return there;
}

/* The content of a small file, or NULL. */
static char *content(const struct doctor *d, const char *name)
{
	char *path = path_of(d, "%s", name), *text = read_small(path);

	free(path);
	return text;
}

/* Machines of Fedora's kin, and those where akmods builds the module and not DKMS. */
static bool has_dnf(const struct doctor *d)
{
	return exists(d, "/usr/bin/dnf");
}

static bool has_akmods(const struct doctor *d)
{
	return exists(d, "/usr/sbin/akmods") && !exists(d, "/var/lib/dkms/gmemfd");
}

/* One of the commands that mend; the last one that was made is freed. */
__attribute__((format(printf, 2, 3)))
static const char *cure(struct doctor *d, const char *fmt, ...)
{
	char *made;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&made, fmt, ap) < 0)
		made = NULL;
	va_end(ap);
	/* Not before: it may be a part of this one. */
	free(d->cure);
	d->cure = made;
	return d->cure;
}

/* Installs both, of the newest version that there is. */
static const char *upgrade_cure(const struct doctor *d)
{
	if (has_dnf(d))
		return "dnf upgrade '*gmemfd*' (from source: make dkms-install install-tools)";
	return "apt install --only-upgrade gmemfd-dkms gmemfd-tools (from source: make dkms-install install-tools)";
}

/* Builds the module for the kernel, anew if it is there, and installs it. */
static const char *build_cure(struct doctor *d)
{
	if (has_akmods(d))
		return cure(d, "akmods --force --akmod gmemfd --kernels %s", d->kernel);
	if (d->dkms_knows)
		return cure(d, "dkms install --force -m gmemfd -v %s -k %s", d->dkms_version, d->kernel);
	if (has_dnf(d))
		return "dnf install dkms-gmemfd (from source: make dkms-install)";
	return "apt install gmemfd-dkms (from source: make dkms-install)";
}

/* "6.12.3-anything" as a number that can be compared; 0 when it is none. */
static unsigned int release_of(const char *release)
{
	unsigned int major, minor;

	return sscanf(release, "%u.%u", &major, &minor) == 2 ? major << 16 | minor : 0;
}

static void find_kernel(struct doctor *d)
{
	struct utsname name;

	uname(&name);
	if (strcmp(name.machine, "x86_64")) {
		find(d, "kernel", ABSENT, "use an x86-64 machine", "%s is not supported", name.machine);
		return;
	}
	if (!release_of(d->kernel))
		find(d, "kernel", UNKNOWN, "gmemctl doctor --kernel RELEASE, of those in /lib/modules",
		     "'%s' has no version that could be compared", d->kernel);
	else if (release_of(d->kernel) < release_of(OLDEST_SUPPORTED))
		find(d, "kernel", ABSENT, has_dnf(d) ? "dnf upgrade kernel && reboot" :
		     "apt install linux-image-amd64 && reboot", "%s is older than %s, the oldest that is supported",
		     d->kernel, OLDEST_SUPPORTED);
	else if (release_of(d->kernel) > release_of(NEWEST_TESTED))
		find(d, "kernel", WARN, upgrade_cure(d), "%s is newer than %s, the newest that was tested",
		     d->kernel, NEWEST_TESTED);
	else
		find(d, "kernel", GOOD, NULL, "%s is supported", d->kernel);
}

static void find_headers(struct doctor *d)
{
	char *path = path_of(d, "/lib/modules/%s/build/Makefile", d->kernel);

	if (!access(path, F_OK))
		find(d, "headers", GOOD, NULL, "those of %s are installed", d->kernel);
	else
		find(d, "headers", d->built ? UNKNOWN : BAD,
		     has_dnf(d) ? cure(d, "dnf install kernel-devel-%s", d->kernel) :
				  cure(d, "apt install linux-headers-%s", d->kernel),
		     "those of %s are not installed; they are needed to build the module", d->kernel);
	free(path);
}

/* Names of versions begin with a digit; there are links to kernels beside them. */
static int is_version(const struct dirent *entry)
{
	return entry->d_name[0] >= '0' && entry->d_name[0] <= '9';
}

/* What DKMS has: for each version a directory, in it one for each kernel it has been built for. */
static void look_at_dkms(struct doctor *d)
{
	char *path = path_of(d, "/var/lib/dkms/gmemfd"), *ours;
	struct dirent **versions = NULL;
	int i, nr = scandir(path, &versions, is_version, versionsort);

	d->dkms_knows = nr > 0;
	/* The newest of them; this tool's, if it is there; but what is built comes before what is not. */
	for (i = 0; i < nr; i++) {
		bool better = strcmp(d->dkms_version, GMEMFD_VERSION), built;

		ours = path_of(d, "/var/lib/dkms/gmemfd/%s/%s", versions[i]->d_name, d->kernel);
		built = !access(ours, F_OK);
		free(ours);
		if (built > d->dkms_built || (built == d->dkms_built && better))
			strcpy(d->dkms_version, versions[i]->d_name);
		d->dkms_built |= built;
		free(versions[i]);
	}
	free(versions);
	free(path);
}

static void find_dkms(struct doctor *d)
{
	if (has_akmods(d))
		find(d, "dkms", GOOD, NULL, "akmods builds modules here");
	else if (!d->dkms_knows)
		find(d, "dkms", d->built ? UNKNOWN : BAD, build_cure(d), "DKMS does not know gmemfd%s",
		     exists(d, "/usr/sbin/dkms") ? "" : ", and is not installed");
	else if (!d->dkms_built)
		find(d, "dkms", d->built ? WARN : BAD, build_cure(d), "DKMS has gmemfd %s, and has not built it for %s",
		     d->dkms_version, d->kernel);
	else if (strcmp(d->dkms_version, GMEMFD_VERSION))
		find(d, "dkms", WARN, upgrade_cure(d), "DKMS has built gmemfd %s, and this is gmemctl " GMEMFD_VERSION,
		     d->dkms_version);
	else
		find(d, "dkms", GOOD, NULL, "gmemfd %s is built for %s", d->dkms_version, d->kernel);
}

static char *info_of(struct kmod_list *info, const char *key)
{
	struct kmod_list *at;

	kmod_list_foreach(at, info)
		if (!strcmp(kmod_module_info_get_key(at), key))
			return xasprintf("%s", kmod_module_info_get_value(at));
	return NULL;
}

/* The module file that modprobe would take. */
static void find_module(struct doctor *d)
{
	char *dir = path_of(d, "/lib/modules/%s", d->kernel), *version = NULL;
	static const char *const no_config[] = { NULL };
	struct kmod_ctx *ctx = kmod_new(dir, no_config);
	struct kmod_list *found = NULL, *info = NULL;
	struct kmod_module *module = NULL;
	const char *path = NULL;

	if (ctx)
		kmod_set_log_priority(ctx, 0);
	if (ctx && !kmod_module_new_from_lookup(ctx, "gmemfd", &found) && found) {
		module = kmod_module_get_module(found);
		path = kmod_module_get_path(module);
	}
	if (path && kmod_module_get_info(module, &info) >= 0 && info) {
		d->built = true;
		version = info_of(info, "version");
		d->signer = info_of(info, "signer");
		d->srcversion = info_of(info, "srcversion");
	}
	if (!path)
		find(d, "module", ABSENT, build_cure(d), "there is none for %s", d->kernel);
	else if (!info)
		find(d, "module", ABSENT, build_cure(d), "%s is no module that can be read", path);
	else if (!version || strcmp(version, GMEMFD_VERSION))
		find(d, "module", BAD, upgrade_cure(d), "%s is of version %s, and this is gmemctl "
		     GMEMFD_VERSION, path, version ? version : "unknown");
	else
		find(d, "module", GOOD, NULL, "%s", path);
	free(version);
	if (info)
		kmod_module_info_free_list(info);
	if (module)
		kmod_module_unref(module);
	if (found)
		kmod_module_unref_list(found);
	if (ctx)
		kmod_unref(ctx);
	free(dir);
}

static const char *load_cure(struct doctor *d)
{
	return d->built ? "modprobe gmemfd" : cure(d, "%s; then: modprobe gmemfd", build_cure(d));
}

static void find_loaded(struct doctor *d)
{
	char *version = content(d, "/sys/module/gmemfd/version"), *src = content(d, "/sys/module/gmemfd/srcversion");

	d->loaded = exists(d, "/sys/module/gmemfd");
	if (!d->loaded)
		find(d, "loaded", ABSENT, load_cure(d), "the module is not loaded");
	else if (!version || strcmp(version, GMEMFD_VERSION))
		find(d, "loaded", ABSENT, RELOAD, "the module that is loaded is of version %s, and this is gmemctl %s",
		     version ? version : "unknown", GMEMFD_VERSION);
	else if (src && d->srcversion && strcmp(src, d->srcversion))
		find(d, "loaded", WARN, RELOAD, "the module that is loaded is not the one that is installed");
	else
		find(d, "loaded", GOOD, NULL, "version %s", version);
	free(version);
	free(src);
}

/* Whether modules have to be signed. */
static void find_secure_boot(struct doctor *d)
{
	char *enforce = content(d, "/sys/module/module/parameters/sig_enforce");
	char *lockdown = content(d, "/sys/kernel/security/lockdown");
	char *path = path_of(d, "%s", SECURE_BOOT);
	bool locked = lockdown && strstr(lockdown, "[") && !strstr(lockdown, "[none]");
	/* Four bytes of attributes, and the value. */
	unsigned char value[5];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool known = fd >= 0 && read(fd, value, sizeof(value)) == sizeof(value), on = known && value[4] == 1;

	if (fd >= 0)
		close(fd);
	d->enforced = locked || (enforce && *enforce == 'Y');
	if (!exists(d, "/sys/firmware/efi"))
		find(d, "secure boot", GOOD, NULL, "this machine was not booted by EFI%s",
		     d->enforced ? ", and still takes signed modules only" : "");
	else if (!known)
		find(d, "secure boot", UNKNOWN, "mokutil --sb-state, as root",
		     "the EFI variable SecureBoot cannot be read%s",
		     d->enforced ? "; signed modules only are taken" : "");
	else
		find(d, "secure boot", GOOD, NULL, "%s; modules %s", on ? "on" : "off",
		     d->enforced ? "have to be signed by a key that the kernel knows" : "need no signature");
	free(enforce);
	free(lockdown);
	free(path);
}

/* Whether a certificate of that name is in a keyring: its line of /proc/keys is "... asymmetri NAME: ID: ...". */
static bool key_known(const char *keys, const char *signer)
{
	char *name = xasprintf(" %s: ", signer), *other = xasprintf(": %s: ", signer);
	const char *line = keys, *end, *at;
	bool known = false;

	for (; line && !known; line = end ? end + 1 : NULL) {
		end = strchr(line, '\n');
		at = strstr(line, " asymmetri ");
		if (!at || (end && at > end))
			continue;
		at = strstr(line, name);
		if (!at || (end && at > end))
			at = strstr(line, other);
		known = at && (!end || at < end);
	}
	free(name);
	free(other);
	return known;
}

static void find_signature(struct doctor *d)
{
	/* Whoever builds the module signs it, with a key that is made once. */
	const char *key = has_akmods(d) ? "/etc/pki/akmods/certs/public_key.der" : "/var/lib/dkms/mok.pub";
	const char *make_key = has_akmods(d) ? "kmodgenca" : has_dnf(d) ? "dnf install openssl" : "apt install openssl";
	const char *build = build_cure(d);
	char *keys = content(d, "/proc/keys");
	char *sign = xasprintf("%s && %s", make_key, build);
	char *enrol = xasprintf("mokutil --import %s && reboot, and confirm it there", key);

	if (!d->built)
		find(d, "signature", UNKNOWN, build, "there is no module that could be signed");
	else if (!d->signer)
		find(d, "signature", d->enforced ? BAD : GOOD, d->enforced ? sign : NULL, "the module is not signed%s",
		     d->enforced ? "" : ", and need not be");
	else if (!keys || !strstr(keys, " asymmetri "))
		find(d, "signature", d->enforced ? WARN : UNKNOWN, "gmemctl doctor, as root",
		     "the module is signed by '%s'; which keys the kernel knows is not shown to you", d->signer);
	else if (key_known(keys, d->signer))
		find(d, "signature", GOOD, NULL, "the module is signed by '%s', whom the kernel knows", d->signer);
	else
		find(d, "signature", d->enforced ? BAD : GOOD, d->enforced ? enrol : NULL,
		     "the module is signed by '%s', whom the kernel does not know%s", d->signer,
		     d->enforced ? "" : ", and need not");
	free(sign);
	free(enrol);
	free(keys);
}

static void find_kvm(struct doctor *d)
{
	char *cpu = content(d, "/proc/cpuinfo");
	bool amd = cpu && strstr(cpu, " svm"), intel = cpu && strstr(cpu, " vmx");
	const char *load = amd ? "modprobe kvm-amd" : intel ? "modprobe kvm-intel" :
			   "enable virtualisation in the firmware (SVM or VT-x), or nesting in the hypervisor";
	int fd;

	free(cpu);
	if (!exists(d, "/dev/kvm")) {
		find(d, "kvm", WARN, load, "there is no /dev/kvm: VMs run emulated, if at all");
		return;
	}
	fd = d->here ? open("/dev/kvm", O_RDWR | O_CLOEXEC) : -1;
	if (!d->here || fd >= 0)
		find(d, "kvm", GOOD, NULL, "/dev/kvm is there%s", fd >= 0 ? ", and can be opened" : "");
	else if (errno == EACCES || errno == EPERM)
		find(d, "kvm", WARN, "usermod -aG kvm USER, and log in anew", "no right to open /dev/kvm");
	else if (errno == ENODEV || errno == ENXIO || errno == ENOENT)
		find(d, "kvm", WARN, load, "/dev/kvm is there, and KVM is not");
	else
		find(d, "kvm", WARN, "journalctl -k -g kvm, which may tell more", "/dev/kvm cannot be opened: %s",
		     strerror(errno));
	if (fd >= 0)
		close(fd);
}

static bool in_group(gid_t gid)
{
	gid_t groups[1024];
	int n = getgroups(ARRAY_SIZE(groups), groups);

	while (n-- > 0)
		if (groups[n] == gid)
			return true;
	return getegid() == gid;
}

static void find_device(struct doctor *d)
{
	char *path = path_of(d, "%s", GMEMFD_DEVICE), *mounts;
	struct gmemfd_info info;
	struct group *group;
	const char *whose;
	struct stat st;
	int dev, err;

	if (stat(path, &st)) {
		/* The kernel makes the node, in devtmpfs; where that is mounted somebody has removed it. */
		mounts = content(d, "/proc/mounts");
		find(d, "device", d->loaded ? BAD : ABSENT, !d->loaded ? load_cure(d) :
		     mounts && strstr(mounts, " /dev devtmpfs ") ? RELOAD : "mount -t devtmpfs none /dev",
		     "there is no " GMEMFD_DEVICE);
		free(mounts);
		goto out;
	}
	if (!d->here) {
		find(d, "device", GOOD, NULL, GMEMFD_DEVICE " is there");
		goto out;
	}
	group = getgrgid(st.st_gid);
	whose = group ? group->gr_name : "without a name";
	dev = gmemfd_open(NULL);
	if (dev == -EACCES || dev == -EPERM) {
		if (!(st.st_mode & 0060))
			find(d, "device", BAD, GROUP_CURE,
			     GMEMFD_DEVICE " has mode %04o and belongs to user %d only", st.st_mode & 07777, st.st_uid);
		else if (in_group(st.st_gid))
			find(d, "device", BAD, ACL_CURE,
			     "no right to open " GMEMFD_DEVICE ", although you are in its group");
		else
			find(d, "device", BAD, cure(d, "usermod -aG %s USER, and log in anew", whose),
			     GMEMFD_DEVICE " is for group %s, and you are not in it", whose);
		goto out;
	}
	if (dev == -EPROTONOSUPPORT || dev == -ENOTTY) {
		find(d, "device", ABSENT, cure(d, "%s; then: " RELOAD, upgrade_cure(d)), GMEMFD_DEVICE
		     " is of another version than gmemctl " GMEMFD_VERSION);
		goto out;
	}
	err = dev < 0 ? dev : gmemfd_info(dev, &info, sizeof(info));
	if (dev >= 0)
		close(dev);
	if (err)
		find(d, "device", BAD, RELOAD, GMEMFD_DEVICE " cannot be used: %s", strerror(-err));
	else
		find(d, "device", GOOD, NULL,
		     GMEMFD_DEVICE " (mode %04o, group %s) answers: ABI %u, files up to %s, huge pages: %s",
		     st.st_mode & 07777, whose, info.abi, size_text(info.max_bytes), info.huge_size ? "yes" : "no");
out:
	free(path);
}

int cmd_doctor(int argc, char **argv)
{
	struct doctor_options options = {};
	struct doctor d = {};
	struct utsname name;
	struct json_object *report;
	int code;

	argc = parse_options(argc, argv, &options);
	if (argc < 0)
		return USAGE;
	if (argc)
		return fail(USAGE, "what is '%s'? 'gmemctl doctor --help' tells what it takes", argv[0]);
	uname(&name);
	d.root = options.root ? options.root : "";
	d.kernel = options.kernel ? options.kernel : name.release;
	d.here = !options.root && !strcmp(d.kernel, name.release);
	if (strchr(d.kernel, '/'))
		return fail(USAGE, "--kernel: '%s' is no kernel's release", d.kernel);
	if (options.root && access(options.root, X_OK))
		return fail_errno(FAILED, errno, "--root %s", options.root);
	d.findings = json_list();
	look_at_dkms(&d);

	find_kernel(&d);
	find_module(&d);
	find_headers(&d);
	find_dkms(&d);
	find_secure_boot(&d);
	find_signature(&d);
	find_loaded(&d);
	find_device(&d);
	find_kvm(&d);

	code = d.worst == ABSENT ? UNSUPPORTED : d.worst == BAD ? FAILED : DONE;
	if (common.json) {
		report = json_new();
		json_string(report, "version", GMEMFD_VERSION);
		json_string(report, "kernel", d.kernel);
		json_truth(report, "usable", code == DONE);
		json_put(report, "findings", d.findings);
		if (json_print(report))
			code = FAILED;
	} else {
		json_object_put(d.findings);
		if (flush_stdout())
			code = FAILED;
	}
	free(d.signer);
	free(d.srcversion);
	free(d.cure);
	return code;
}
