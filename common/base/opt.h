/* Options: one table a program, from which parsing, --help, range checks and
 * the provenance record (what shaped the content of an output) all come.
 *
 *     static struct { const char *out; long k; kf_common common; } o = { .k = 10 };
 *     static const kf_opt table[] = {
 *         { "out", KF_OPT_STRING, &o.out, "DIR", "where the logits go", .flags = KF_OPT_REQUIRED },
 *         { "top-k", KF_OPT_INT, &o.k, "K", "candidates kept", .min = 1, .max = 1000, .flags = KF_OPT_SHAPES },
 *         KF_OPT_COMMON(&o.common),
 *         { 0 }
 *     };
 *
 * Values start as the table's variables are initialised, and --help prints
 * those as the defaults. GNU style: --name value, --name=value, --flag, and
 * unambiguous prefixes are accepted; "--" ends options. A real that is NAN shows no default. The table also gives
 * the manual page (--man-page) and bash's completion (--completion), which `make install` puts in place.
 */
#ifndef KF_BASE_OPT_H
#define KF_BASE_OPT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/status.h"

typedef enum {
	KF_OPT_END = 0,
	KF_OPT_FLAG,    /* bool */
	KF_OPT_INT,     /* long, in [min, max] */
	KF_OPT_REAL,    /* double, in [min, max] */
	KF_OPT_STRING,  /* const char *, borrowed from argv */
	KF_OPT_LIST,    /* kf_list: given once per value */
	KF_OPT_CHOICE   /* int: index into choices "a|b|c" */
} kf_opt_kind;

enum {
	KF_OPT_REQUIRED = 1,
	KF_OPT_SHAPES = 2,  /* shapes the output's content: goes into the provenance record */
	KF_OPT_POSITIVE = 4, /* a real that must be > min, not >= */
	KF_OPT_OFF = 8      /* with SHAPES: not recorded at 0, NULL or its first choice. For options that are younger than the format: what was
	                     * made before there was one is what is made without it */
};

typedef struct {
	const char *name;      /* without the dashes */
	kf_opt_kind kind;
	void *value;
	const char *arg;       /* what --help calls the value; the choices of a KF_OPT_CHOICE */
	const char *help;
	double min, max;       /* both 0: no bounds */
	unsigned flags;
} kf_opt;

#define KF_LIST_MAX 64
typedef struct { const char *item[KF_LIST_MAX]; int n; } kf_list;

/* What every program takes. */
typedef struct {
	long threads;          /* 0: all usable cores */
	long seed;
	bool quiet;
	int progress;          /* KF_PROGRESS_*, progress.h */
	int backend;           /* 0 auto, 1 cpu, 2 cuda */
	const char *shard;     /* "I/N" or NULL */
} kf_common;

#define KF_OPT_COMMON(c) \
	{ "threads", KF_OPT_INT, &(c)->threads, "N", "threads to use, 0 for all usable cores", 0, 4096, 0 }, \
	{ "seed", KF_OPT_INT, &(c)->seed, "N", "seed of everything random", 0, 9007199254740992.0, 0 }, \
	{ "quiet", KF_OPT_FLAG, &(c)->quiet, NULL, "print errors only", 0, 0, 0 }, \
	{ "progress", KF_OPT_CHOICE, &(c)->progress, "auto|plain|json|none", "how to show progress: a bar on a terminal, else lines; JSON a line", 0, 0, 0 }
/* For programs that run a model. */
#define KF_OPT_BACKEND(c) \
	{ "backend", KF_OPT_CHOICE, &(c)->backend, "auto|cpu|cuda", "where to compute", 0, 0, 0 }
/* For programs that make a folder and know again what made it. value: a bool */
#define KF_OPT_REPLACE(value) \
	{ "replace", KF_OPT_FLAG, value, NULL, "take away an OUT that this program made of something else, or otherwise, and make it anew", 0, 0, 0 }
/* For programs that map a set to a set. */
#define KF_OPT_SHARD(c) \
	{ "shard", KF_OPT_STRING, &(c)->shard, "I/N", "work on part I of N (0-based) of the shards only", 0, 0, 0 }

typedef struct {
	const char *name;      /* "kf-extract" */
	const char *summary;   /* one line */
	const char *usage;     /* "--model PATH --corpus DIR --out DIR [options]" */
	const char *notes;     /* after the options in --help, or NULL */
	const kf_opt *opts;
	bool operands;         /* whether words that are no options are accepted */
	bool stops;            /* it keeps what it finished, and looks whether it is asked to end (stop.h) */
} kf_program;

/* Parse. operands (may be NULL) receives what is no option. Returns KF_OK, KF_END
 * when --help or --version was printed (exit 0), or KF_EINVAL with the message
 * (exit 2). What only a run can see of wrong usage it reports as KF_EUSAGE. */
kf_status kf_opt_parse(const kf_program *p, int argc, char **argv, kf_list *operands, kf_err *err) KF_MUST_CHECK;

/* The options marked KF_OPT_SHAPES and their values, as a new JSON object (NULL on no memory). */
json_t *kf_opt_record(const kf_program *p);

/* Parse "I/N", the value of --option, into *i, *n; NULL gives 0/1. KF_EUSAGE for anything else. */
kf_status kf_parse_part(const char *option, const char *text, int *i, int *n, kf_err *err) KF_MUST_CHECK;

/* A program's whole life around its work: parse the options, run, print the error
 * ("kf-extract: ...") and return the exit status: 0 done, 1 failed, 2 wrong usage. Stopped by a signal, it ends by it. */
int kf_main(const kf_program *p, int argc, char **argv, kf_status (*run)(const kf_list *operands, kf_err *err));
/* Say what failed now, not when run has returned: for a process whose end others wait for, or do not. kf_main does not say it again. */
void kf_main_says(const kf_program *p, kf_status rc, kf_err *err);

#define KF_VERSION "0.1.0"

#endif
