/* A vocabulary map in a file: to which token of a target's vocabulary each token of a source's goes.
 *
 * The file says what made it (two tokenizers, and a corpus where text was counted), so that a map is only used where it
 * belongs, and it holds the spellings of both vocabularies, so that it can be read without them. docs/format.md
 * has the bytes.
 */
#ifndef KF_STORE_VOCABMAP_H
#define KF_STORE_VOCABMAP_H

#include <jansson.h>
#include <stdbool.h>

#include "common/base/hash.h"
#include "common/base/mem.h"

/* What made a map: all of it is its identity. */
typedef struct {
	char method[24];         /* "mined", "stats", ... */
	kf_fp source, target;    /* of the tokenizers (kf_tokenizer_fp) */
	int32_t n, m;            /* tokens of the source's vocabulary, of the target's */
	bool counted;            /* text was counted: corpus is what the logits' corpus input is */
	kf_fp corpus;
} kf_vocabmap_key;

typedef struct {
	kf_vocabmap_key key;
	char *source, *target;   /* names, for people */
	int32_t *to;             /* (n) the target's token, -1: none */
	uint32_t *distance;      /* (n) edit distance of the two strings as the method compares them; where there is none, UINT32_MAX */
	uint8_t *equal;          /* (n) 1: the same string but for the space marker */
	uint64_t *count;         /* (n) how often the two were aligned in the text; 0 where nothing was counted */
	char **spelled[2];       /* (n), (m) as the vocabularies write their tokens; of the source, of the target */
	kf_arena arena;          /* of all of it */
} kf_vocabmap;

/* All arrays allocated; to is -1, distance UINT32_MAX, the rest 0, spellings NULL. */
kf_status kf_vocabmap_new(const kf_vocabmap_key *key, const char *source, const char *target, kf_vocabmap **out, kf_err *err)
	KF_MUST_CHECK;
void kf_vocabmap_free(kf_vocabmap *m);  /* accepts NULL */

kf_fp kf_vocabmap_fp(const kf_vocabmap_key *key);

/* KF_OK when a map made from `there` is what is wanted here; else KF_EMISMATCH with what differs. path: for the message. */
kf_status kf_vocabmap_fits(const kf_vocabmap_key *there, const kf_vocabmap_key *here, const char *path, kf_err *err) KF_MUST_CHECK;

/* Atomically: a reader sees no map or all of it. */
kf_status kf_vocabmap_write(const kf_vocabmap *m, const char *path, const char *program, kf_err *err) KF_MUST_CHECK;
/* KF_ENOTFOUND: no such file. KF_EDATA: damaged or no map. KF_EUNSUPPORTED: a newer format. */
kf_status kf_vocabmap_read(const char *path, kf_vocabmap **out, kf_err *err) KF_MUST_CHECK;

#endif
