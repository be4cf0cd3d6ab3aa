/* Shard sets: what stages exchange. docs/format.md has the bytes.
 *
 * A set is a folder with manifest.json, attachments (a tokenizer), and one LMDB
 * environment a shard (one file each). A shard holds blocks: key = first document of
 * the block, value = a group of documents (record.h): a checksum, and planes packed one
 * by one (planes.h). A stage maps shard i of its input to shard i of its output.
 *
 * Writing: a shard becomes visible only when whole (temporary name, sync, rename),
 * the manifest last. Killed at any instant, a stage loses at most the shard in
 * hand; the same command then ends with the same content.
 *
 *     kf_set_begin(&spec, &w, &state, err)    KF_SET_CURRENT: up to date, nothing to do
 *     for each shard s of this part:
 *         if (kf_set_shard_done(w, s)) continue;
 *         kf_shard_begin(w, s, &sw, err); kf_shard_put_...(sw, record, err) ...; kf_shard_commit(sw, err)
 *     kf_set_commit(w, stats, &complete, err)
 */
#ifndef KF_STORE_SET_H
#define KF_STORE_SET_H

#include <jansson.h>

#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/base/status.h"

typedef enum { KF_SET_CORPUS, KF_SET_LOGITS, KF_SET_ALIGNED, KF_SET_TARGETS, KF_SET_KINDS } kf_set_kind;
const char *kf_set_kind_name(kf_set_kind kind);  /* "corpus", "logits", "aligned", "targets" */

#define KF_SET_FORMAT 2        /* newest format version this program writes and reads: 1 text, 2 with conversations */
#define KF_MAX_SHARDS 100000

/* What made a set: role "corpus", "model", "tokenizer", "source", "target", ... */
typedef struct {
	const char *role;
	const char *name;      /* for people: a path or a model's name */
	kf_fp fp;
} kf_set_input;

#define KF_MAX_INPUTS 66           /* 63 sources, and the target, its corpus and the weights: what kf-fuse takes */

typedef struct {
	const char *dir;
	kf_set_kind kind;
	const char *program;       /* "kf-extract" */
	json_t *options;           /* that shaped the content (kf_opt_record); borrowed, may be NULL */
	json_t *info;              /* free-form facts for readers, not part of the identity
	                            * (logits: k, model, vocab size; targets: sources); borrowed, may be NULL */
	const kf_set_input *inputs;
	int n_inputs, n_shards;
	int part, parts;           /* --shard: this process makes the shards s with s % parts == part; parts 0: all of them */
	const void *tokenizer;     /* serialised (kf_tokenizer_save), or NULL; borrowed */
	size_t tokenizer_size;
	bool f32;                  /* --precision f32: numbers unquantised */
	bool chat;                 /* documents may be conversations: the set says format 2 */
	bool replace;              /* a set in dir that program made, and is something else, is taken away first (--replace) */
	bool joined;               /* put together from parts, without what the stage would say under "stats": to the stage the set is
	                            * KF_SET_RESUMED, with nothing to make but that */
} kf_set_spec;

/* ---- writing ---- */

typedef struct kf_set_writer kf_set_writer;
typedef struct kf_shard_writer kf_shard_writer;
typedef enum { KF_SET_NEW, KF_SET_RESUMED, KF_SET_CURRENT } kf_set_state;

/* Begin or continue a set. A folder that holds a set (or a half-written one)
 * of another identity is refused with KF_EMISMATCH and what differs (option,
 * input, version), or, with spec->replace, emptied of it: killed on the way, it is a half-written set of what it was; a newer format with KF_EUNSUPPORTED; a folder with other things in it
 * with KF_EINVAL; one that another process is writing, all or this part, with KF_EBUSY. KF_SET_CURRENT also refreshes the
 * manifest's time stamp, for make. Of a half-written set every block of this part's shards is looked at before a shard counts
 * as done; those of other parts are not looked at. */
kf_status kf_set_begin(const kf_set_spec *spec, kf_set_writer **out, kf_set_state *state, kf_err *err) KF_MUST_CHECK;
bool kf_set_shard_done(const kf_set_writer *w, int shard); /* of this part's shards */

/* One thread a shard writer; several shards may be written at once. */
kf_status kf_shard_begin(kf_set_writer *w, int shard, kf_shard_writer **out, kf_err *err) KF_MUST_CHECK;
/* Sums over the shard's documents, any JSON, kept with it, so that a later run needs not read its documents again to have
 * them. Before the commit; NULL keeps none. */
void kf_shard_keep_sums(kf_shard_writer *sw, json_t *sums);
kf_status kf_shard_commit(kf_shard_writer *sw, kf_err *err) KF_MUST_CHECK; /* frees sw, also on failure */
void kf_shard_abandon(kf_shard_writer *sw);                                /* frees sw, removes the file; accepts NULL */

/* Write the manifest if every shard is there; *complete says so (false after one part of an
 * array job). stats (may be NULL, borrowed) goes under "stats". Frees w, also on failure. */
kf_status kf_set_commit(kf_set_writer *w, json_t *stats, bool *complete, kf_err *err) KF_MUST_CHECK;
/* Sums kept with a shard of the set being written, by whichever process: a new reference, NULL when it has none.
 * KF_ENOTFOUND: the shard is not there yet. */
kf_status kf_set_shard_sums(const kf_set_writer *w, int shard, json_t **out, kf_err *err) KF_MUST_CHECK;
/* End a part of an array job without looking whether the set is whole. Frees w. */
void kf_set_leave(kf_set_writer *w);
void kf_set_abandon(kf_set_writer *w);  /* keeps finished shards for the next run; accepts NULL */

/* Take shards i with bad[i] (n) out of a set, which is incomplete then: the command that makes it makes these again. n = 0:
 * its manifest, also the one of a set that is not whole, or its tokenizer is what is damaged. */
kf_status kf_set_drop(const char *dir, const bool *bad, int n, kf_err *err) KF_MUST_CHECK;

/* Take shard `shard` of the set being written from a file that is sound and of the same identity: by a hard link where the
 * file system has them and link is true, else by copying (temporary name, sync, rename). *linked says which. */
kf_status kf_set_take_shard(kf_set_writer *w, int shard, const char *from, bool link, bool *linked, kf_err *err) KF_MUST_CHECK;

/* The options and the facts (kf_set_spec.info) of the set in a folder, complete or half-written; NULL where there is none. New references. */
kf_status kf_set_recorded(const char *dir, json_t **options, json_t **info, kf_err *err) KF_MUST_CHECK;

/* ---- reading ---- */

typedef struct kf_set kf_set;
typedef struct kf_shard kf_shard;

/* Open a complete set. kind KF_SET_KINDS accepts any. Errors: KF_ENOTFOUND (no
 * manifest: "not complete; run the command that makes it again" when there are
 * shards), KF_EMISMATCH (another kind), KF_EUNSUPPORTED (newer format), KF_EDATA. */
kf_status kf_set_open(const char *dir, kf_set_kind kind, kf_set **out, kf_err *err) KF_MUST_CHECK;
void kf_set_close(kf_set *set);                      /* accepts NULL */

const char *kf_set_dir(const kf_set *set);
kf_set_kind kf_set_get_kind(const kf_set *set);
kf_fp kf_set_fp(const kf_set *set);                  /* identity: of what made it, not of its bytes */
int kf_set_shards(const kf_set *set);
uint64_t kf_set_docs(const kf_set *set);             /* in all; kf_set_shard_docs in one */
uint64_t kf_set_shard_docs(const kf_set *set, int shard);
uint64_t kf_set_tokens(const kf_set *set);           /* 0 for a corpus */
uint64_t kf_set_bytes(const kf_set *set);            /* of text */
uint64_t kf_set_disk(const kf_set *set);             /* bytes on disk, everything counted */
bool kf_set_f32(const kf_set *set);
bool kf_set_chat(const kf_set *set);                 /* documents may be conversations */
const json_t *kf_set_manifest(const kf_set *set);    /* borrowed */
json_t *kf_set_info(const kf_set *set);              /* borrowed; NULL when absent */
/* A name in info ("model", "source"), borrowed; the set's folder where it is absent. */
const char *kf_set_info_name(const kf_set *set, const char *key);
/* Whether all its files are there, as large as the manifest says: else the stage that made it makes what is missing again. */
bool kf_set_files(const kf_set *set);
/* KF_EUSAGE for logits of one fold of the text (kf-extract --fold), whose other documents are there without a token. */
kf_status kf_set_whole(const kf_set *set, kf_err *err) KF_MUST_CHECK;
/* Fingerprint of the first input with this role; KF_ENOTFOUND when there is none. */
kf_status kf_set_input_fp(const kf_set *set, const char *role, kf_fp *out, kf_err *err) KF_MUST_CHECK;
/* Serialised tokenizer, borrowed until close; KF_ENOTFOUND when the set carries none. */
kf_status kf_set_tokenizer(const kf_set *set, const void **data, size_t *n, kf_err *err) KF_MUST_CHECK;

/* Open a shard for reading. One thread a kf_shard. */
kf_status kf_shard_open(const kf_set *set, int shard, kf_shard **out, kf_err *err) KF_MUST_CHECK;
void kf_shard_close(kf_shard *s);                    /* accepts NULL */
uint64_t kf_shard_docs(const kf_shard *s);
/* Go to the n-th document of the shard (0-based), so that the next read returns it. */
kf_status kf_shard_seek(kf_shard *s, uint64_t n, kf_err *err) KF_MUST_CHECK;
/* Go to document `doc` (kf_dochead.doc); KF_ENOTFOUND when the shard lacks it. */
kf_status kf_shard_find(kf_shard *s, uint64_t doc, kf_err *err) KF_MUST_CHECK;
/* The reading calls, one a record type, are in record.h: kf_shard_next_corpus, ... */

#endif
