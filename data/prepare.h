/* kf-prepare: text into a corpus.
 *
 * Documents are read twice: once to check and count them (so that bad input leaves nothing
 * behind), once to write. Memory does not grow with the corpus.
 */
#ifndef KF_DATA_PREPARE_H
#define KF_DATA_PREPARE_H

#include <jansson.h>

#include "common/store/set.h"
#include "data/input.h"

typedef enum { KF_NORMALIZE_NFC, KF_NORMALIZE_NONE } kf_normalize;
typedef enum { KF_INVALID_KEEP, KF_INVALID_REFUSE } kf_invalid;
typedef enum { KF_SPLIT_ALL, KF_SPLIT_TRAIN, KF_SPLIT_VALID, KF_SPLIT_TEST } kf_split;

typedef struct {
	const char *const *paths;  /* (n_paths) files, folders, "-" */
	int n_paths;
	const char *out;
	const char *domain;        /* of documents that name none; NULL: "" */
	long doc_bytes;            /* most bytes of a piece */
	long shards;               /* at most: never more than there are documents */
	long docs_per_domain;      /* 0: all; else so many pieces of each domain, */
	uint64_t seed;             /* the first ones with 0, else a random choice */
	int format, normalize, invalid, split;
	double skip_bad;           /* records that are not what they should be are left out if they are at most so many per cent; 0: none may be */
	bool replace;              /* a corpus in out that was made of something else is replaced */
	int part, parts;           /* --shard: the shards s with s % parts == part are written; parts 0: all */
	int progress;              /* KF_PROGRESS_* */
	json_t *record;            /* the options that shape the content (kf_opt_record); borrowed */
} kf_prepare_opts;

#define KF_BAD_SHOWN 20

typedef struct {
	kf_set_state state;
	bool complete;             /* false after one part of an array job */
	uint64_t documents;        /* read, of the split asked for */
	uint64_t records;          /* read, of any split, and the bad ones: */
	uint64_t bad;              /* left out; what was wrong with the first of them: */
	char bad_text[KF_BAD_SHOWN][sizeof ((kf_err *)0)->text];
	uint64_t empty;            /* records of the split without text, left out, too */
	uint64_t pieces, bytes;    /* written */
	uint64_t not_utf8;         /* documents kept byte for byte */
	char first_not_utf8[256];
	int files, left_out, shards;
	int again;                 /* files that are there more than once, and the first of them: */
	char first_again[256];
	int no_text;               /* in folders, and left out */
	char first_no_text[256];
	int plain;                 /* called .json, and no records */
	char first_plain[256];
} kf_prepare_stats;

/* The split of a document that names none: by a hash of its id, 8 : 1 : 1. */
kf_split kf_split_of(const char *id);

/* Whether piece number i of a domain comes before another in the random choice of a seed:
 * the smaller rank does. A bijection of 64 bits; the number itself with seed 0. */
uint64_t kf_choice_rank(uint64_t seed, uint64_t i);

kf_status kf_prepare(const kf_prepare_opts *o, kf_prepare_stats *stats, kf_err *err) KF_MUST_CHECK;

#endif
