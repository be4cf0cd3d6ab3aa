/* A target without libFuzzer: driver [-n CHANGES] [-s SEED] FILE|FOLDER... runs it over every file and over changes of each,
 * which a fixed seed decides. Prints how many inputs it was. A crash leaves the input in crash-TARGET. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/rng.h"
#include "tests/fuzz/fuzz.h"

#define MOST ((size_t)1 << 20)   /* bytes of an input */

static uint8_t input[MOST];
static size_t size;
static char crash[256];

static void on_crash(int sig)
{
	int fd = open(crash, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd >= 0 && write(fd, input, size) < 0) _exit(1);
	signal(sig, SIG_DFL);
	raise(sig);
}

static size_t below(kf_rng *r, size_t n) { return (size_t)(kf_rng_below(r, n)); }

/* Values at which counts, sizes and signs go wrong. */
static const uint64_t edges[] = { 0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
	0x100000000, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff };

static void change(kf_rng *r)
{
	static uint8_t copy[MOST];
	size_t at = size ? below(r, size) : 0, n, to;

	switch (size ? below(r, 8) : 6) {
	case 0: case 1:
		input[at] ^= (uint8_t)(1u << below(r, 8));
		break;
	case 2:
		input[at] = (uint8_t)kf_rng_next(r);
		break;
	case 3:
		n = (size_t)1 << below(r, 4);
		if (at + n <= size) memcpy(input + at, &edges[below(r, sizeof edges / sizeof *edges)], n);
		break;
	case 4:
		size = at;
		break;
	case 5:   /* take a piece out */
		n = below(r, size - at < 64 ? size - at : 64);
		memmove(input + at, input + at + n, size - at - n);
		size -= n;
		break;
	case 6:   /* put one in */
		n = 1 + below(r, 64);
		if (size + n > MOST) break;
		memmove(input + at + n, input + at, size - at);
		for (size_t i = 0; i < n; i++) input[at + i] = (uint8_t)kf_rng_next(r);
		size += n;
		break;
	case 7:   /* copy one elsewhere */
		to = below(r, size);
		n = below(r, size - (at > to ? at : to) + 1);
		memcpy(copy, input + at, n);
		memcpy(input + to, copy, n);
		break;
	}
}

static long changes = 500, inputs;
static kf_rng rng;

static void run_file(const char *path)
{
	kf_buf b = { 0 };
	kf_err err;

	if (kf_file_read(path, MOST, &b, &err) != KF_OK) {
		fprintf(stderr, "%s\n", err.text);
		kf_buf_release(&b);
		return;
	}
	for (long i = 0; i <= changes; i++) {
		size = b.len;
		if (b.len) memcpy(input, b.data, b.len);
		for (size_t n = i ? 1 + below(&rng, 4) : 0; n; n--) change(&rng);
		LLVMFuzzerTestOneInput(input, size);
		inputs++;
	}
	kf_buf_release(&b);
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void run(const char *path)
{
	struct dirent **e;
	char inner[KF_PATH_MAX];
	int n = kf_is_dir(path) ? scandir(path, &e, NULL, by_name) : -1;

	if (n < 0) run_file(path);
	for (int i = 0; i < n; i++) {
		if (e[i]->d_name[0] != '.' && kf_path_join(inner, path, e[i]->d_name, NULL) == KF_OK) run(inner);
		free(e[i]);
	}
	if (n >= 0) free(e);
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');
	static const int signals[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL };
	int c;

	kf_rng_seed(&rng, 1);
	while ((c = getopt(argc, argv, "n:s:")) != -1)
		if (c == 'n') changes = atol(optarg);
		else if (c == 's') kf_rng_seed(&rng, (uint64_t)atoll(optarg));
		else return 2;
	snprintf(crash, sizeof crash, "crash-%s", name ? name + 1 : argv[0]);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) signal(signals[i], on_crash);
	for (; optind < argc; optind++) run(argv[optind]);
	printf("%ld inputs\n", inputs);
	return inputs ? 0 : 1;
}
