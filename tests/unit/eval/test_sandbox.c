/* Generated programs: those that behave, and those that do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/pool.h"
#include "common/base/progress.h"
#include "eval/sandbox.h"

static const kf_sandbox_opts plain = { .seconds = 20, .memory = 512L << 20, .file_bytes = 4 << 20, .guards = KF_GUARD_ALL };

typedef struct { const char *what, *program; kf_verdict want; } sample;

static const sample behave[] = {
	{ "nothing", "pass", KF_VERDICT_PASSED },
	{ "the standard library", "import math, re, collections, hashlib, typing, random, itertools\nassert hashlib.md5(b'').hexdigest()", KF_VERDICT_PASSED },
	{ "output", "print('x' * 1000000)\nimport sys\nsys.stderr.write('y' * 1000000)", KF_VERDICT_PASSED },
	{ "no input", "import sys\nassert sys.stdin.read() == ''", KF_VERDICT_PASSED },
	{ "UTF-8", "assert len('\xc3\xa9') == 1", KF_VERDICT_PASSED },
	{ "its own limits", "import os, resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\nresource.prlimit(os.getpid(), resource.RLIMIT_CORE)", KF_VERDICT_PASSED },
	{ "asks of descriptors", "import errno, fcntl, os, termios\nos.set_inheritable(0, True)\nos.set_blocking(1, True)\nassert not os.isatty(0)\n"
		"try:\n    fcntl.ioctl(0, termios.TCGETS, bytes(60))\nexcept OSError as e:\n    assert e.errno == errno.ENOTTY", KF_VERDICT_PASSED },
	{ "signals to itself", "import os, signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)\nos.kill(os.getpid(), signal.SIGUSR1)", KF_VERDICT_PASSED },
	{ "a thread", "import threading\nt = threading.Thread(target=lambda: None)\nt.start()\nt.join()", KF_VERDICT_PASSED },

	{ "hashes that do not change", "import sys\nassert sys.flags.hash_randomization == 0", KF_VERDICT_PASSED },
	{ "a failed assertion", "assert 1 == 2", KF_VERDICT_FAILED },
	{ "no Python", "this is not Python", KF_VERDICT_FAILED },
	{ "an end before the end", "import sys\nsys.exit(0)", KF_VERDICT_FAILED },
	{ "a hidden end before the end", "import os\nos._exit(0)", KF_VERDICT_FAILED },
	{ "a last word of its own", "import os\nos.write(3, b'0' * 32)\nos._exit(0)", KF_VERDICT_FAILED },
	{ "a crash", "import ctypes\nctypes.string_at(0)", KF_VERDICT_FAILED },
};

static const sample hostile[] = {
	{ "forks", "import os\nos.fork()", KF_VERDICT_FORBIDDEN },
	{ "forks for ever", "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass", KF_VERDICT_FORBIDDEN },
	{ "starts a program", "import subprocess\ntry:\n    subprocess.run(['true'])\nexcept BaseException:\n    pass", KF_VERDICT_FORBIDDEN },
	{ "a shell", "import os\nos.system('true')", KF_VERDICT_FORBIDDEN },
	{ "opens a socket", "import socket\ntry:\n    socket.socket()\nexcept BaseException:\n    pass", KF_VERDICT_FORBIDDEN },
	{ "a local socket", "import socket\nsocket.socket(socket.AF_UNIX)", KF_VERDICT_FORBIDDEN },
	{ "traces", "import ctypes\nctypes.CDLL(None).ptrace(0, 0, 0, 0)", KF_VERDICT_FORBIDDEN },
	{ "mounts", "import ctypes\nctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None)", KF_VERDICT_FORBIDDEN },
	{ "a namespace of its own", "import ctypes\nctypes.CDLL(None).unshare(0x10000000)", KF_VERDICT_FORBIDDEN },
	{ "eats memory", "x = []\nwhile True:\n    x.append(bytearray(1 << 20))", KF_VERDICT_FAILED },
	{ "one large piece of memory", "x = bytearray(1 << 33)", KF_VERDICT_FAILED },
	{ "kills its parent", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)", KF_VERDICT_FAILED },
	{ "kills all", "import os, signal\ntry:\n    os.kill(-1, signal.SIGKILL)\nexcept PermissionError:\n    raise SystemExit(1)", KF_VERDICT_FAILED },
	{ "leaves its session", "import os\nos.setsid()", KF_VERDICT_FAILED },
	{ "raises its limits", "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))", KF_VERDICT_FAILED },
	{ "a huge file", "f = open('/tmp/x', 'wb')\nwhile True:\n    f.write(bytes(1 << 20))", KF_VERDICT_FAILED },
	{ "many files", "for i in range(10000):\n    open('/tmp/%d' % i, 'w').close()", KF_VERDICT_FAILED },
	{ "writes to the system", "open('/usr/kfuse-test', 'w')", KF_VERDICT_FAILED },
	{ "writes to its root", "open('/kfuse-test', 'w')", KF_VERDICT_FAILED },
	/* memory that no limit of a process counts */
	{ "memory of System V", "import ctypes\nassert ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) < 0", KF_VERDICT_FORBIDDEN },
	{ "memory of a file without a name", "import os\nos.memfd_create('x')", KF_VERDICT_FAILED },
	{ "secret memory", "import ctypes\nassert ctypes.CDLL(None).syscall(447, 0) >= 0", KF_VERDICT_FAILED },
	{ "limits another process", "import os, resource\nresource.prlimit(os.getppid() or 1 << 22, resource.RLIMIT_CORE, (0, 0))", KF_VERDICT_FAILED },
	{ "signals through a descriptor", "import os, fcntl\nfcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())", KF_VERDICT_FAILED },
	{ "slows another process down", "import os\nos.sched_setscheduler(os.getppid(), os.SCHED_IDLE, os.sched_param(0))", KF_VERDICT_FAILED },
};

static void run_all(const kf_sandbox *s, const sample *x, size_t n)
{
	int wrong = 0;

	for (size_t i = 0; i < n; i++) {
		kf_verdict v;
		kf_err err = { 0 };

		if (kf_sandbox_run(s, x[i].program, strlen(x[i].program), &v, &err) != KF_OK) fail_msg("%s: %s", x[i].what, err.text);
		if (v != x[i].want) {
			print_message("%s: %s, not %s\n", x[i].what, kf_verdict_name(v), kf_verdict_name(x[i].want));
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
}

/* With these guards, or skipped where the system has not got them. */
static kf_sandbox *open_with(unsigned guards, double seconds)
{
	kf_sandbox_opts o = plain;
	kf_sandbox *s;
	kf_err err = { 0 };

	o.guards = guards;
	o.seconds = seconds;
	if (kf_sandbox_new(&o, &s, &err) == KF_OK) {
		assert_int_equal(kf_sandbox_guards(s), guards);
		return s;
	}
	print_message("%s\n", err.text);
	skip();
	return NULL;
}

static int descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (d && readdir(d)) n++;
	if (d) closedir(d);
	return n;
}

static void check_guards(unsigned guards)
{
	kf_sandbox *s = open_with(guards, 20);
	int before = descriptors();

	run_all(s, behave, sizeof behave / sizeof *behave);
	run_all(s, hostile, sizeof hostile / sizeof *hostile);
	assert_int_equal(descriptors(), before);
	assert_int_equal(access("/usr/kfuse-test", F_OK), -1);
	kf_sandbox_free(s);
}

static void namespaces(void **state) { (void)state; check_guards(KF_GUARD_NAMESPACES | KF_GUARD_SECCOMP); }
static void landlock(void **state) { (void)state; check_guards(KF_GUARD_LANDLOCK | KF_GUARD_SECCOMP); }

/* In namespaces there is a folder to write to, empty for everyone, and little else to see. */
static void own_folder(void **state)
{
	static const sample x[] = {
		{ "writes", "f = open('x', 'w')\nf.write('1')\nf.close()\nassert open('/tmp/x').read() == '1'", KF_VERDICT_PASSED },
		{ "finds it empty", "import os\nassert os.listdir('/tmp') == []", KF_VERDICT_PASSED },
		{ "sees no processes and no devices of the machine", "import os\nassert not {'proc', 'sys', 'var'} & set(os.listdir('/'))", KF_VERDICT_PASSED },
		{ "is nobody", "import os\nassert os.getuid() == 65534", KF_VERDICT_PASSED },
		{ "more than its folder holds", "for i in range(9):\n    open('/tmp/%d' % i, 'wb').write(bytes(1 << 20))", KF_VERDICT_FAILED },
	};
	kf_sandbox *s = open_with(KF_GUARD_NAMESPACES | KF_GUARD_SECCOMP, 20);

	(void)state;
	run_all(s, x, sizeof x / sizeof *x);
	kf_sandbox_free(s);
}

static void landlock_writes_nothing(void **state)
{
	static const sample x[] = {
		{ "writes", "open('/tmp/kfuse-test-landlock', 'w')", KF_VERDICT_FAILED },
		{ "makes a folder", "import os\nos.mkdir('/tmp/kfuse-test-landlock')", KF_VERDICT_FAILED },
		{ "of root's powers has none", "s = open('/proc/self/status').read()\nassert all(int(s.split(c)[1].split()[0], 16) == 0 for c in ('CapPrm:', 'CapEff:'))",
			KF_VERDICT_PASSED },
	};
	kf_sandbox *s = open_with(KF_GUARD_LANDLOCK | KF_GUARD_SECCOMP, 20);

	(void)state;
	run_all(s, x, sizeof x / sizeof *x);
	assert_int_equal(access("/tmp/kfuse-test-landlock", F_OK), -1);
	kf_sandbox_free(s);
}

/* Of a file of the user's: its path is there for the programs. */
static void landlock_changes_nothing(void **state)
{
	static const char call[] = "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\ndef call(*a):\n    return ctypes.get_errno() if c.syscall(*a) < 0 else 0\n"
		"path = b'%s'\n%s";
	static const sample x[] = {
		{ "changes a mode", "import os\nos.chmod(path, 0o700)", KF_VERDICT_FAILED },
		{ "changes a mode otherwise", "assert call(452, -100, path, 0o700, 0) == 0", KF_VERDICT_FAILED },
		/* were these numbers not refused, what they are given here would be found to be no address */
		{ "attributes of files are refused", "assert [call(n, -100, path, 0, None, None, 16) for n in (463, 466, 469)] == [1, 1, 1]", KF_VERDICT_PASSED },
		{ "flags of files are refused", "import fcntl\nf = open(path)\nfor n in 0x40086602, 0x40046602, 0x401c5820:\n    try:\n"
			"        fcntl.ioctl(f, n, bytes(28))\n    except PermissionError:\n        continue\n    raise SystemExit(1)", KF_VERDICT_PASSED },
		{ "calls that are not known", "assert [call(n, 0, 0, 0, 0) for n in (470, 4000)] == [38, 38]", KF_VERDICT_PASSED },
	};
	enum { N = sizeof x / sizeof *x };
	kf_sandbox *s = open_with(KF_GUARD_LANDLOCK | KF_GUARD_SECCOMP, 20);
	char path[] = "/tmp/kfuse-test-XXXXXX", program[N][512];
	sample of[N];
	const int fd = mkstemp(path);
	struct stat st;

	(void)state;
	assert_true(fd >= 0);
	for (int i = 0; i < N; i++) {
		snprintf(program[i], sizeof program[i], call, path, x[i].program);
		of[i] = (sample){ x[i].what, program[i], x[i].want };
	}
	run_all(s, of, N);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	close(fd);
	unlink(path);
	kf_sandbox_free(s);
}

/* Loops are stopped by the clock or by the limit of processor time; a program that waits, or catches everything, by the clock. */
static void check_time(unsigned guards)
{
	static const sample x[] = {
		{ "loops", "while True: pass", KF_VERDICT_TIME },
		{ "waits", "import time\ntime.sleep(1000)", KF_VERDICT_TIME },
		{ "catches signals", "import signal\nfor i in range(1, 32):\n    try:\n        signal.signal(i, signal.SIG_IGN)\n    except OSError:\n        pass\n"
			"while True: pass", KF_VERDICT_TIME },
		{ "threads that loop", "import threading\ndef loop():\n    while True: pass\nfor i in range(4):\n    threading.Thread(target=loop).start()", KF_VERDICT_TIME },
	};
	kf_sandbox *s = open_with(guards, 1);

	run_all(s, x, sizeof x / sizeof *x);
	kf_sandbox_free(s);
}

static void out_of_time(void **state) { (void)state; check_time(KF_GUARD_NAMESPACES | KF_GUARD_SECCOMP); }
static void landlock_out_of_time(void **state) { (void)state; check_time(KF_GUARD_LANDLOCK | KF_GUARD_SECCOMP); }

typedef struct { const kf_sandbox *s; int wrong; } many_job;

static void one_of_many(void *arg, size_t i, int worker)
{
	many_job *j = arg;
	const char *program = i % 2 ? "pass" : "assert False";
	kf_verdict v;

	(void)worker;
	if (kf_sandbox_run(j->s, program, strlen(program), &v, NULL) != KF_OK || v != (i % 2 ? KF_VERDICT_PASSED : KF_VERDICT_FAILED))
		__atomic_add_fetch(&j->wrong, 1, __ATOMIC_RELAXED);
}

static void several_at_once(void **state)
{
	kf_sandbox *s = open_with(KF_GUARD_NAMESPACES | KF_GUARD_SECCOMP, 20);
	many_job j = { s, 0 };
	kf_pool *pool;

	(void)state;
	assert_int_equal(kf_pool_new(4, &pool, NULL), KF_OK);
	kf_pool_run(pool, 24, one_of_many, &j);
	kf_pool_free(pool);
	assert_int_equal(j.wrong, 0);
	kf_sandbox_free(s);
}

/* Whether a program may start a thread where its user, who is not root, has more of them than a program may; 2: no such guards. */
static int thread_beside_many(unsigned guards)
{
	static const char program[] = "import threading\nt = threading.Thread(target=lambda: None)\nt.start()\nt.join()";
	kf_sandbox_opts o = plain;
	kf_sandbox *s;
	kf_verdict v;
	kf_pool *pool;

	o.guards = guards;
	o.unsafe = !guards;
	if (getuid() == 0 && (setgid(12345) != 0 || setuid(12345) != 0 || prctl(PR_SET_DUMPABLE, 1) != 0)) return 3;
	if (kf_pool_new(100, &pool, NULL) != KF_OK) return 4;
	if (kf_sandbox_new(&o, &s, NULL) != KF_OK) return 2;
	if (kf_sandbox_run(s, program, strlen(program), &v, NULL) != KF_OK) return 5;
	return v == KF_VERDICT_PASSED ? 0 : 1;
}

static void threads_of_a_busy_user(void **state)
{
	static const unsigned guards[] = { KF_GUARD_NAMESPACES | KF_GUARD_SECCOMP, KF_GUARD_LANDLOCK | KF_GUARD_SECCOMP, 0 };

	(void)state;
	for (int i = 0; i < 3; i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) _exit(thread_beside_many(guards[i]));
		assert_true(pid > 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) == 2) print_message("guards %u: not to be had\n", guards[i]);
		else if (WEXITSTATUS(status)) fail_msg("guards %u: %d", guards[i], WEXITSTATUS(status));
	}
}

static void without_protection(void **state)
{
	kf_sandbox_opts o = plain;
	kf_sandbox *s;
	kf_verdict v;
	kf_err err = { 0 };

	(void)state;
	o.guards = 0;
	assert_int_equal(kf_sandbox_new(&o, &s, &err), KF_EUNSUPPORTED);
	assert_non_null(strstr(err.text, "--unsafe-code"));
	o.unsafe = true;
	assert_int_equal(kf_sandbox_new(&o, &s, &err), KF_OK);
	assert_non_null(strstr(kf_sandbox_describe(s), "ONLY"));
	assert_int_equal(kf_sandbox_run(s, "pass", 4, &v, &err), KF_OK);
	assert_int_equal(v, KF_VERDICT_PASSED);
	kf_sandbox_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(namespaces), cmocka_unit_test(landlock), cmocka_unit_test(own_folder), cmocka_unit_test(landlock_writes_nothing),
		cmocka_unit_test(landlock_changes_nothing), cmocka_unit_test(out_of_time), cmocka_unit_test(landlock_out_of_time),
		cmocka_unit_test(several_at_once), cmocka_unit_test(threads_of_a_busy_user), cmocka_unit_test(without_protection),
	};
	return cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
}
