#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void need(int ok, const char *what)
{
	if (ok) return;
	perror(what);
	exit(1);
}

static void write_all(int fd, const void *data, size_t size)
{
	need(ftruncate(fd, 0) == 0, "ftruncate");
	need(pwrite(fd, data, size, 0) == (ssize_t)size, "write");
}

const char *fuzz_file(const uint8_t *data, size_t size)
{
	static char path[64];
	static int fd = -1;

	if (fd < 0) {
		need((fd = memfd_create("fuzz", 0)) >= 0, "memfd_create");
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	}
	write_all(fd, data, size);
	return path;
}

static char folder[64];

static void empty(void)
{
	DIR *d = opendir(folder);
	struct dirent *e;
	char path[512];

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && snprintf(path, sizeof path, "%s/%s", folder, e->d_name) < (int)sizeof path) unlink(path);
	if (d) closedir(d);
}

static void remove_folder(void)
{
	empty();
	rmdir(folder);
}

const char *fuzz_dir(void)
{
	if (!folder[0]) {
		snprintf(folder, sizeof folder, "%s/kfuse-fuzz.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
		need(mkdtemp(folder) != NULL, "mkdtemp");
		atexit(remove_folder);
	}
	empty();
	return folder;
}

void fuzz_put(const char *dir, const char *name, const void *data, size_t size)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	need((f = fopen(path, "wb")) != NULL && fwrite(data, 1, size, f) == size && fclose(f) == 0, path);
}

void fuzz_answer(kf_status rc, const kf_err *err)
{
	if (rc == KF_OK || rc == KF_END || err->text[0]) return;
	fprintf(stderr, "an error (%s) without a message\n", kf_status_name(rc));
	abort();
}

volatile uint8_t fuzz_sink;

void fuzz_touch(const void *p, size_t size)
{
	const uint8_t *b = p;
	uint8_t all = 0;

	for (size_t i = 0; i < size; i++) all ^= b[i];
	fuzz_sink = all;
}
