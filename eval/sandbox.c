#include "eval/sandbox_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/progress.h"

enum { WORD = 16 };            /* random bytes of the program's last word */

const char *kf_verdict_name(kf_verdict v)
{
	static const char *const name[] = { "passed", "failed", "out of time", "forbidden" };

	return name[v];
}

unsigned kf_sandbox_guards(const kf_sandbox *s) { return s->guards; }
const char *kf_sandbox_describe(const kf_sandbox *s) { return s->text; }
void kf_sandbox_free(kf_sandbox *s) { kf_free(s); }

/* ---- what the program sees ---- */

static bool within(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	return strncmp(path, folder, n) == 0 && (path[n] == '/' || !path[n]);
}

/* path at the same place under the new root, unless it is there already or does not exist. */
static kf_status add_bind(kf_sandbox *s, const char *path, kf_err *err)
{
	kf_sandbox_bind *b = &s->bind[s->n_binds];
	struct stat st;
	ssize_t n;

	if (lstat(path, &st) != 0 || strcmp(path, "/") == 0) return KF_OK;
	for (int i = 0; i < s->n_binds; i++)
		if (!s->bind[i].link[0] && !s->bind[i].file && within(path, s->bind[i].from)) return KF_OK;
	if (s->n_binds == KF_SANDBOX_BINDS || strlen(path) >= sizeof b->from)
		return kf_fail(err, KF_EUNSUPPORTED, "Python is spread over too many folders to be shown to a program");
	memset(b, 0, sizeof *b);
	snprintf(b->from, sizeof b->from, "%s", path);
	snprintf(b->to, sizeof b->to, "%s%s", s->root, path);
	b->file = !S_ISDIR(st.st_mode);
	/* where /lib and others are part of /usr */
	if (S_ISLNK(st.st_mode)) {
		if ((n = readlink(path, b->link, sizeof b->link - 1)) <= 0) return kf_fail_errno(err, "cannot read link %s", path);
		b->link[n] = 0;
	}
	s->n_binds++;
	return KF_OK;
}

/* Ask python3 where it is: its own file, then its folders, a line each. */
static kf_status find_python(kf_sandbox *s, char folders[4][PATH_MAX], int *n, kf_err *err)
{
	static const char ask[] = "python3 -I -c 'import os, sys; print(os.path.realpath(sys.executable)); "
		"print(os.path.realpath(sys.base_prefix)); print(os.path.realpath(sys.base_exec_prefix))' 2>/dev/null";
	FILE *f = popen(ask, "re");
	char line[PATH_MAX];

	*n = 0;
	if (!f) return kf_fail_errno(err, "cannot start python3, which runs generated programs");
	while (*n < 4 && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = 0;
		memcpy(folders[(*n)++], line, sizeof line);
	}
	if (pclose(f) != 0 || *n < 2 || folders[0][0] != '/')
		return kf_fail(err, KF_ENOTFOUND, "there is no working python3 on PATH, which generated programs need: install python3");
	memcpy(s->python, folders[0], sizeof s->python);
	return KF_OK;
}

static kf_status choose_root(kf_sandbox *s, char folders[4][PATH_MAX], int n, kf_err *err)
{
	static const char *const may[] = { "/mnt", "/media", "/srv", "/tmp" };

	for (size_t i = 0; i < sizeof may / sizeof *may; i++) {
		bool taken = !kf_is_dir(may[i]);

		for (int k = 0; k < n; k++) taken = taken || within(folders[k], may[i]);
		if (!taken) {
			s->root = may[i];
			return KF_OK;
		}
	}
	return kf_fail(err, KF_EUNSUPPORTED, "there is no folder (/mnt, /media, /srv, /tmp) to mount an empty root on");
}

static kf_status show(kf_sandbox *s, char folders[4][PATH_MAX], int n, kf_err *err)
{
	static const char *const system[] = { "/usr", "/lib", "/lib64", "/lib32", "/bin", "/etc/ld.so.cache", "/dev/null", "/dev/zero",
		"/dev/urandom" };
	kf_status rc = choose_root(s, folders, n, err);

	for (size_t i = 0; i < sizeof system / sizeof *system && rc == KF_OK; i++) rc = add_bind(s, system[i], err);
	if (rc == KF_OK && n > 0) *strrchr(folders[0], '/') = 0;
	for (int i = 0; i < n && rc == KF_OK; i++) rc = add_bind(s, folders[i], err);
	return rc;
}

/* ---- running ---- */

static void close_all(int *fd, int n)
{
	for (int i = 0; i < n; i++)
		if (fd[i] >= 0) close(fd[i]);
}

static kf_status write_all(int fd, const char *p, size_t n, kf_err *err)
{
	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR) continue;
		if (w <= 0) return kf_fail_errno(err, "cannot hand a program over");
		p += w;
		n -= (size_t)w;
	}
	return KF_OK;
}

/* The program, and after it what writes the word, as a file without a name. */
static kf_status program_file(const char *program, size_t n, const char *word, int *fd, kf_err *err)
{
	char end[160];
	kf_status rc;

	snprintf(end, sizeof end, "\nimport os as _kf_os\n_kf_os.write(%d, b\"%s\")\n", KF_CHILD_PASS, word);
	if ((*fd = memfd_create("program", MFD_CLOEXEC)) < 0) return kf_fail_errno(err, "cannot make a file for a program");
	if ((rc = write_all(*fd, program, n, err)) != KF_OK || (rc = write_all(*fd, end, strlen(end), err)) != KF_OK) return rc;
	if (lseek(*fd, 0, SEEK_SET) < 0) return kf_fail_errno(err, "cannot rewind a program");
	return KF_OK;
}

/* Wait for the end of a child that reports to fd, or for the clock. *late: it was stopped. */
static void wait_for(pid_t pid, int fd, double seconds, kf_child_report *r, bool *told, bool *late)
{
	double deadline = kf_now() + seconds;

	*told = *late = false;
	for (;;) {
		struct pollfd p = { fd, POLLIN, 0 };
		double left = deadline - kf_now();
		int n = left > 0 ? poll(&p, 1, (int)(left * 1000) + 1) : 0;

		if (n < 0 && errno == EINTR) continue;
		if (n > 0) {
			ssize_t got = read(fd, r, sizeof *r);

			if (got < 0 && errno == EINTR) continue;
			*told = got == sizeof *r;
			break;
		}
		*late = true;
		break;
	}
	/* The group, for whatever is left of it; in a namespace of its own everything goes with its first process. */
	kill(-pid, SIGKILL);
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
}

static kf_verdict judge(const kf_child_report *r, bool told, bool late, bool passed)
{
	if (late) return KF_VERDICT_TIME;
	if (!told) return KF_VERDICT_FAILED;
	if (WIFSIGNALED(r->status) && WTERMSIG(r->status) == SIGSYS) return KF_VERDICT_FORBIDDEN;
	if (WIFSIGNALED(r->status) && (WTERMSIG(r->status) == SIGXCPU || WTERMSIG(r->status) == SIGKILL)) return KF_VERDICT_TIME;
	return WIFEXITED(r->status) && WEXITSTATUS(r->status) == 0 && passed ? KF_VERDICT_PASSED : KF_VERDICT_FAILED;
}

/* In a user namespace of its own the limit counts the program's tasks alone. Elsewhere all of the user's, kf-eval's threads and the
 * programs beside this one among them: no more than the machine has at this time, with room for those that start meanwhile. */
static long most_tasks(const kf_sandbox *s)
{
	FILE *f = s->guards & KF_GUARD_NAMESPACES ? NULL : fopen("/proc/loadavg", "re");
	long all = 0;

	if (f && fscanf(f, "%*s %*s %*s %*d/%ld", &all) != 1) all = 0;
	if (f) fclose(f);
	return s->guards & KF_GUARD_NAMESPACES ? 64 : all + 1024;
}

static void fill_job(const kf_sandbox *s, kf_child_job *j)
{
	j->s = s;
	j->parent = getpid();
	j->tasks = most_tasks(s);
	snprintf(j->uid_map, sizeof j->uid_map, "65534 %u 1\n", (unsigned)geteuid());
	snprintf(j->gid_map, sizeof j->gid_map, "65534 %u 1\n", (unsigned)getegid());
	snprintf(j->tmp_options, sizeof j->tmp_options, "size=%ld,nr_inodes=1024,mode=777", s->o.file_bytes);
}

kf_status kf_sandbox_run(const kf_sandbox *s, const char *program, size_t n, kf_verdict *out, kf_err *err)
{
	int fd[6] = { -1, -1, -1, -1, -1, -1 };    /* program, null, the word's two ends, the report's */
	uint8_t random[WORD];
	char word[2 * WORD + 1], got[2 * WORD + 2];
	kf_child_report r = { 0 };
	kf_child_job j;
	bool told, late;
	ssize_t len;
	pid_t pid;
	kf_status rc = KF_OK;

	if (getrandom(random, sizeof random, 0) != sizeof random) return kf_fail_errno(err, "cannot get random bytes");
	for (int i = 0; i < WORD; i++) snprintf(word + 2 * i, 3, "%02x", random[i]);
	if ((rc = program_file(program, n, word, &fd[0], err)) != KF_OK) goto out;
	if ((fd[1] = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0 || pipe2(fd + 2, O_CLOEXEC) != 0 || pipe2(fd + 4, O_CLOEXEC) != 0) {
		rc = kf_fail_errno(err, "cannot make pipes to a program");
		goto out;
	}
	fill_job(s, &j);
	j.program = fd[0];
	j.null = fd[1];
	j.pass = fd[3];
	j.report = fd[5];
	if ((pid = fork()) == 0) kf_sandbox_child(&j);
	if (pid < 0) {
		rc = kf_fail_errno(err, "cannot start a process for a program");
		goto out;
	}
	close(fd[3]);
	close(fd[5]);
	fd[3] = fd[5] = -1;
	wait_for(pid, fd[4], s->o.seconds * KF_SANDBOX_CLOCK, &r, &told, &late);
	if (told && r.failed) {
		r.stage[sizeof r.stage - 1] = 0;
		errno = r.error;
		rc = kf_fail_errno(err, "cannot prepare the sandbox of a program: %s", r.stage);
		goto out;
	}
	/* Nobody holds the other end any more; what is in the pipe is all there will be. */
	if (fcntl(fd[2], F_SETFL, O_NONBLOCK) != 0) rc = kf_fail_errno(err, "cannot read a program's last word");
	len = read(fd[2], got, sizeof got);
	*out = judge(&r, told, late, len == 2 * WORD && memcmp(got, word, 2 * WORD) == 0);
out:
	close_all(fd, 6);
	return rc;
}

/* ---- choosing the protection ---- */

/* Whether a harmless program passes and, with a filter of calls, one that opens a socket is stopped. */
static kf_status try_guards(kf_sandbox *s, unsigned guards, kf_err *err)
{
	static const char ends[] = "pass", connects[] = "import socket\nsocket.socket()";
	kf_verdict v;
	kf_status rc;

	s->guards = guards;
	if ((rc = kf_sandbox_run(s, ends, strlen(ends), &v, err)) != KF_OK) return rc;
	if (v != KF_VERDICT_PASSED)
		return kf_fail(err, KF_EUNSUPPORTED, "in the sandbox even an empty program does not end as it should (%s)", kf_verdict_name(v));
	if (!(guards & KF_GUARD_SECCOMP)) return KF_OK;
	if ((rc = kf_sandbox_run(s, connects, strlen(connects), &v, err)) != KF_OK) return rc;
	if (v != KF_VERDICT_FORBIDDEN)
		return kf_fail(err, KF_EUNSUPPORTED, "in the sandbox a program could open a socket");
	return KF_OK;
}

static void describe(kf_sandbox *s)
{
	static const char *const name[] = { "namespaces, ", "landlock, ", "seccomp, " };

	for (int i = 0; i < 3; i++)
		if (s->guards & (1u << i)) strcat(s->text, name[i]);
	snprintf(s->text + strlen(s->text), sizeof s->text - strlen(s->text), "limits (%g s, %ld MB)%s", s->o.seconds, s->o.memory >> 20,
		s->guards & KF_GUARD_SECCOMP ? "" : " ONLY");
}

kf_status kf_sandbox_new(const kf_sandbox_opts *opts, kf_sandbox **out, kf_err *err)
{
	static const unsigned best[] = { KF_GUARD_NAMESPACES | KF_GUARD_SECCOMP, KF_GUARD_LANDLOCK | KF_GUARD_SECCOMP, 0 };
	kf_sandbox *s = kf_zalloc(1, sizeof *s);
	char folders[4][PATH_MAX];
	kf_err why[2] = { { 0 }, { 0 } };
	kf_status rc;
	int n = 0;

	*out = NULL;
	if (!s) return kf_fail(err, KF_ENOMEM, "out of memory for a sandbox");
	s->o = *opts;
	s->o.seconds = fmax(opts->seconds, 60);    /* while it is tried: a machine that is busy is not one without protection */
	if ((rc = find_python(s, folders, &n, err)) != KF_OK) goto fail;
	if (show(s, folders, n, &why[0]) != KF_OK) s->o.guards &= ~(unsigned)KF_GUARD_NAMESPACES;
	for (int i = 0; i < 3; i++) {
		if ((best[i] & ~s->o.guards) != 0 || (!best[i] && !opts->unsafe)) continue;
		if (try_guards(s, best[i], i < 2 ? &why[i] : err) == KF_OK) {
			s->o.seconds = opts->seconds;
			describe(s);
			*out = s;
			return KF_OK;
		}
		if (i == 2) goto fail_with;
	}
	rc = kf_fail(err, KF_EUNSUPPORTED, "generated programs are not run: this system offers neither namespaces (%s) nor landlock (%s) to "
		"keep them in. --unsafe-code runs them all the same, with limits only: do that in a machine you can lose",
		why[0].text[0] ? why[0].text : "not tried", why[1].text[0] ? why[1].text : "not tried");
fail:
	kf_sandbox_free(s);
	return rc;
fail_with:
	kf_sandbox_free(s);
	return err ? err->code : KF_EIO;
}
