/* The child's side of the sandbox. Between fork and exec only system calls: the parent has threads, whose locks may be
 * held for ever in here. */
#include "eval/sandbox_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#define AUDIT_ARCH_OURS AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define AUDIT_ARCH_OURS AUDIT_ARCH_AARCH64
#endif

_Noreturn static void fail(const char *stage)
{
	kf_child_report r = { .failed = 1, .error = errno };

	strncpy(r.stage, stage, sizeof r.stage - 1);
	if (write(KF_CHILD_REPORT, &r, sizeof r) < 0) _exit(2);
	_exit(1);
}

/* ---- descriptors ---- */

/* Ours are moved out of the way of the numbers they get, then nothing else stays open. */
static void keep_descriptors(const kf_child_job *j)
{
	int own[] = { j->program, j->null, j->null, j->pass, j->report };
	int high[5];

	for (int i = 0; i < 5; i++)
		if ((high[i] = fcntl(own[i], F_DUPFD, 16)) < 0) _exit(3);
	for (int i = 0; i < 5; i++)
		if (dup2(high[i], i) < 0) _exit(3);
	if (syscall(SYS_close_range, 5, ~0u, 0) != 0)
		for (int fd = 5; fd < 1024; fd++) close(fd);
}

/* ---- namespaces ---- */

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = (ssize_t)strlen(text);

	if (fd < 0 || write(fd, text, (size_t)n) != n) fail(path);
	close(fd);
}

static void enter_namespaces(const kf_child_job *j)
{
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0) fail("unshare");
	/* Within, the user is nobody: exec leaves it no capability. */
	write_file("/proc/self/setgroups", "deny");
	write_file("/proc/self/uid_map", j->uid_map);
	write_file("/proc/self/gid_map", j->gid_map);
}

/* The folders above a path under the root, and the path itself: a folder, or an empty file to bind on. */
static void make_place(const char *path, size_t root, bool file)
{
	char part[PATH_MAX + 64];
	size_t n = strlen(path);

	memcpy(part, path, n + 1);
	for (size_t i = root + 1; i <= n; i++) {
		if (i < n && part[i] != '/') continue;
		part[i] = 0;
		if (i == n && file) {
			int fd = open(part, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

			if (fd < 0) fail("making a file");
			close(fd);
		} else if (mkdir(part, 0755) != 0 && errno != EEXIST) {
			fail("making a folder");
		}
		if (i < n) part[i] = '/';
	}
}

static void bind_read_only(const kf_sandbox_bind *b)
{
	/* struct mount_attr, whose header cannot be included beside <sys/mount.h>: read-only, no set-user-id */
	const uint64_t attr[4] = { 1 | 2, 0, 0, 0 };
	const unsigned long remount = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID;

	if (mount(b->from, b->to, NULL, MS_BIND | MS_REC, NULL) != 0) fail("mount --bind");
	if (syscall(SYS_mount_setattr, AT_FDCWD, b->to, AT_RECURSIVE, attr, sizeof attr) == 0) return;
	if (mount(NULL, b->to, NULL, remount, NULL) != 0) fail("mount read-only");
}

static void enter_root(const kf_child_job *j)
{
	const kf_sandbox *s = j->s;
	size_t n = strlen(s->root);
	char tmp[64];

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) fail("mount --make-private");
	if (mount("tmpfs", s->root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755") != 0) fail("mount tmpfs");
	for (int i = 0; i < s->n_binds; i++) {
		const kf_sandbox_bind *b = &s->bind[i];

		if (b->link[0]) {
			if (symlink(b->link, b->to) != 0) fail("symlink");
			continue;
		}
		make_place(b->to, n, b->file);
		bind_read_only(b);
	}
	memcpy(tmp, s->root, n);
	memcpy(tmp + n, "/tmp", 5);
	make_place(tmp, n, false);
	if (mount("tmpfs", tmp, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, j->tmp_options) != 0) fail("mount tmpfs");
	/* The old root is stacked under the new one, and taken away. */
	if (chdir(s->root) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", MNT_DETACH) != 0) fail("pivot_root");
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) != 0) fail("mount read-only");
	if (chdir("/tmp") != 0) fail("chdir");
}

/* ---- landlock: no file is written, made or removed anywhere ---- */

static void forbid_writing(void)
{
	struct landlock_ruleset_attr rules = { .handled_access_fs = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
		LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
		LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM };
	int fd;

	/* since version 3 (Linux 6.2): without it files can be cut short */
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 3) {
		errno = ENOSYS;
		fail("landlock");
	}
	rules.handled_access_fs |= 1u << 14;
	fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0);
	if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) != 0) fail("landlock");
	close(fd);
	if (chdir("/") != 0) fail("chdir");
}

/* ---- capabilities: of root's, where no namespace has taken them, exec gives none back ---- */

static void drop_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[2] = { { 0 } };

	if (syscall(SYS_capset, &head, none) != 0) fail("capset");
}

/* ---- seccomp ---- */

#ifdef AUDIT_ARCH_OURS

/* Calls that stop the program. Memory of System V and queues belong to no process: limits do not count them, and they stay. */
static const int stops[] = {
#ifdef SYS_fork
	SYS_fork, SYS_vfork,
#endif
	SYS_socket, SYS_socketpair, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_mount, SYS_umount2, SYS_pivot_root,
	SYS_chroot, SYS_unshare, SYS_setns, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_keyctl, SYS_add_key, SYS_request_key,
	SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot, SYS_swapon, SYS_swapoff,
	SYS_open_by_handle_at, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_pidfd_getfd,
	SYS_shmget, SYS_shmat, SYS_shmctl, SYS_semget, SYS_semop, SYS_semtimedop, SYS_semctl, SYS_msgget, SYS_msgsnd, SYS_msgrcv, SYS_msgctl, SYS_mq_open, SYS_mq_unlink
};
/* Calls that are refused: programs may ask without harm. Those that change a file's owner, mode or times landlock does not
 * know of; what is in a file without a name is memory that the limit does not count; and where there are no namespaces, other
 * processes of the user's are there to be slowed down. */
static const int refused[] = {
#ifdef SYS_chmod
	SYS_chmod, SYS_chown, SYS_lchown, SYS_utime, SYS_utimes, SYS_futimesat, SYS_link,
#endif
	SYS_fchmod, SYS_fchmodat, SYS_fchown, SYS_fchownat, SYS_utimensat, SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr,
	SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr, SYS_linkat, SYS_truncate,
	SYS_setsid, SYS_setpgid, SYS_tkill, SYS_pidfd_send_signal, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_personality,
	SYS_setpriority, SYS_sched_setaffinity, SYS_sched_setscheduler, SYS_sched_setparam, SYS_sched_setattr, SYS_ioprio_set,
	SYS_migrate_pages, SYS_move_pages, SYS_memfd_create,
	/* those that not every C library has a name for: memfd_secret, fchmodat2, setxattrat, removexattrat, file_setattr */
	447, 452, 463, 466, 469
};
/* The first number whose call is not known here, the same on both processors: such calls are not there. */
enum { UNKNOWN_CALLS = 470 };
/* Of fcntl: whom to signal when there is something to read, and with what. */
static const int whom[] = { F_SETOWN, F_SETOWN_EX, F_SETSIG };
/* Of ioctl, all that is not refused: what programs and libraries ask of a descriptor. File systems have commands by which a file
 * that is open for reading is made immutable, or a copy of a folder is made, and more of them with every Linux. */
static const uint32_t asks[] = { TCGETS, 0x802c542a /* TCGETS2 */, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX };

#define PUT(...) (code[n++] = (struct sock_filter)__VA_ARGS__)

static void filter_calls(void)
{
	enum { LOAD = BPF_LD | BPF_W | BPF_ABS, IS = BPF_JMP | BPF_JEQ | BPF_K, HAS = BPF_JMP | BPF_JSET | BPF_K, RET = BPF_RET | BPF_K };
	struct sock_filter code[48 + 2 * (sizeof stops + sizeof refused + sizeof whom + sizeof asks) / sizeof *stops];
	const uint32_t nr = offsetof(struct seccomp_data, nr), first = offsetof(struct seccomp_data, args[0]),
		second = offsetof(struct seccomp_data, args[1]), self = (uint32_t)getpid();
	struct sock_fprog program = { .filter = code };
	unsigned short n = 0;

	PUT({ LOAD, 0, 0, offsetof(struct seccomp_data, arch) });
	PUT({ IS, 1, 0, AUDIT_ARCH_OURS });
	PUT({ RET, 0, 0, SECCOMP_RET_KILL_PROCESS });
	PUT({ LOAD, 0, 0, nr });
#ifdef __x86_64__
	PUT({ BPF_JMP | BPF_JGE | BPF_K, 0, 1, 0x40000000 });    /* the x32 way of calling has other numbers */
	PUT({ RET, 0, 0, SECCOMP_RET_KILL_PROCESS });
#endif
	PUT({ BPF_JMP | BPF_JGE | BPF_K, 0, 1, UNKNOWN_CALLS });
	PUT({ RET, 0, 0, SECCOMP_RET_ERRNO | ENOSYS });
	for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
		PUT({ IS, 0, 1, (uint32_t)stops[i] });
		PUT({ RET, 0, 0, SECCOMP_RET_KILL_PROCESS });
	}
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		PUT({ IS, 0, 1, (uint32_t)refused[i] });
		PUT({ RET, 0, 0, SECCOMP_RET_ERRNO | EPERM });
	}
	/* What clone3 is asked for cannot be seen from here: libraries then fall back to clone. */
	PUT({ IS, 0, 1, SYS_clone3 });
	PUT({ RET, 0, 0, SECCOMP_RET_ERRNO | ENOSYS });
	/* clone: threads only */
	PUT({ IS, 0, 4, SYS_clone });
	PUT({ LOAD, 0, 0, first });
	PUT({ HAS, 0, 1, CLONE_THREAD });
	PUT({ RET, 0, 0, SECCOMP_RET_ALLOW });
	PUT({ RET, 0, 0, SECCOMP_RET_KILL_PROCESS });
	PUT({ IS, 0, 2 + 2 * sizeof whom / sizeof *whom, SYS_fcntl });
	PUT({ LOAD, 0, 0, second });
	for (size_t i = 0; i < sizeof whom / sizeof *whom; i++) {
		PUT({ IS, 0, 1, (uint32_t)whom[i] });
		PUT({ RET, 0, 0, SECCOMP_RET_ERRNO | EPERM });
	}
	PUT({ RET, 0, 0, SECCOMP_RET_ALLOW });
	PUT({ IS, 0, 2 + 2 * sizeof asks / sizeof *asks, SYS_ioctl });
	PUT({ LOAD, 0, 0, second });
	for (size_t i = 0; i < sizeof asks / sizeof *asks; i++) {
		PUT({ IS, 0, 1, asks[i] });
		PUT({ RET, 0, 0, SECCOMP_RET_ALLOW });
	}
	PUT({ RET, 0, 0, SECCOMP_RET_ERRNO | EPERM });
	/* limits: its own only, 0 */
	PUT({ IS, 0, 5, SYS_prlimit64 });
	PUT({ LOAD, 0, 0, first });
	PUT({ IS, 1, 0, 0 });
	PUT({ IS, 0, 1, self });
	PUT({ RET, 0, 0, SECCOMP_RET_ALLOW });
	PUT({ RET, 0, 0, SECCOMP_RET_ERRNO | EPERM });
	/* signals: to itself only */
	PUT({ IS, 1, 0, SYS_kill });
	PUT({ IS, 0, 4, SYS_tgkill });
	PUT({ LOAD, 0, 0, first });
	PUT({ IS, 0, 1, self });
	PUT({ RET, 0, 0, SECCOMP_RET_ALLOW });
	PUT({ RET, 0, 0, SECCOMP_RET_ERRNO | EPERM });
	PUT({ RET, 0, 0, SECCOMP_RET_ALLOW });
	program.len = n;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) fail("seccomp");
}

#else

static void filter_calls(void)
{
	errno = ENOSYS;
	fail("seccomp");
}

#endif

/* ---- limits ---- */

static void limit(int what, rlim_t value)
{
	struct rlimit had, want = { value, value };

	if (getrlimit(what, &had) == 0 && had.rlim_max != RLIM_INFINITY && had.rlim_max < value) want.rlim_cur = want.rlim_max = had.rlim_max;
	if (setrlimit(what, &want) != 0) fail("setrlimit");
}

static void set_limits(const kf_sandbox_opts *o, long tasks)
{
	limit(RLIMIT_CPU, (rlim_t)ceil(o->seconds));
	limit(RLIMIT_AS, (rlim_t)o->memory);
	limit(RLIMIT_FSIZE, (rlim_t)o->file_bytes);
	limit(RLIMIT_NOFILE, 64);
	limit(RLIMIT_NPROC, (rlim_t)tasks);
	limit(RLIMIT_CORE, 0);
}

/* ---- the two processes: one that watches, and the program itself ---- */

_Noreturn static void run_program(const kf_child_job *j, pid_t watcher)
{
	const kf_sandbox *s = j->s;
	char *const args[] = { (char *)s->python, (char *)"-s", (char *)"-B", (char *)"-", NULL };
	/* A fixed seed of hashes: sets are in the same order each time. */
	char *const env[] = { (char *)"PATH=/usr/bin:/bin", (char *)"HOME=/tmp", (char *)"LANG=C.UTF-8", (char *)"PYTHONHASHSEED=0",
		(char *)"PYTHONIOENCODING=utf-8", NULL };

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail("prctl");
	/* in a namespace of its own it cannot see its parent: 0 */
	if (getppid() != 0 && getppid() != watcher) _exit(1);
	if (s->guards & KF_GUARD_NAMESPACES) enter_root(j);
	set_limits(&s->o, j->tasks);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("no_new_privs");
	drop_capabilities();
	if (s->guards & KF_GUARD_LANDLOCK) forbid_writing();
	if (fcntl(KF_CHILD_REPORT, F_SETFD, FD_CLOEXEC) != 0) fail("fcntl");
	if (s->guards & KF_GUARD_SECCOMP) filter_calls();
	execve(s->python, args, env);
	fail("exec");
}

_Noreturn void kf_sandbox_child(const kf_child_job *j)
{
	kf_child_report r = { 0 };
	struct sigaction plain = { .sa_handler = SIG_DFL };
	sigset_t none;
	pid_t pid, self;

	keep_descriptors(j);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int sig = 1; sig < 32; sig++)
		if (sig != SIGKILL && sig != SIGSTOP) sigaction(sig, &plain, NULL);
	setsid();
	if (j->s->guards & KF_GUARD_NAMESPACES) enter_namespaces(j);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail("prctl");
	if (getppid() != j->parent) _exit(1);
	self = getpid();
	if ((pid = fork()) < 0) fail("fork");
	if (pid == 0) run_program(j, self);
	close(KF_CHILD_PASS);
	while (waitpid(pid, &r.status, 0) < 0)
		if (errno != EINTR) fail("waitpid");
	_exit(write(KF_CHILD_REPORT, &r, sizeof r) == sizeof r ? 0 : 1);
}
