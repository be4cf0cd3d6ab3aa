/* Inside the store: what set.c, shard_write.c, shard_read.c and the codecs share. Not for
 * other modules. */
#ifndef KF_STORE_STORE_H
#define KF_STORE_STORE_H

#include "common/base/file.h"
#include "common/store/planes.h"
#include "common/store/record.h"
#include "common/store/set.h"

/* ---- names in a set's folder ---- */

#define MANIFEST "manifest.json"
#define MANIFEST_PART "manifest.part.json" /* of a half-written set */
#define REPAIR "; kf-inspect --repair of the set takes it away, and the command that makes the set makes it again"
#define MANIFEST_LOCK "manifest.lock"    /* of whoever begins or completes a set, for as long */
#define TOKENIZER "tokenizer.zst"
#define TIMES "times.log"                /* how long its runs took: for people, no part of the set */
#define FACTS_KEY "facts"                  /* sorts after every block: document numbers stay below 2^56 */
#define KF_MAX_DOC ((uint64_t)1 << 56)

kf_status kf_shard_path(char *out, const char *dir, int shard, kf_err *err) KF_MUST_CHECK;

/* ---- what a shard says of itself, under FACTS_KEY, and the manifest repeats ---- */

typedef struct {
	kf_fp identity;            /* of the set it belongs to */
	int shard, of;             /* its number, and how many the set has, which is no part of the identity; of 0: it does not say */
	uint64_t docs, tokens, bytes;
	uint64_t content;          /* sum over documents of the hash of each, modulo 2^64 */
	uint64_t disk;             /* size of the file */
	kf_fp checksum;            /* of the file: in the manifest only */
} kf_shard_facts;

/* sums (may be NULL, borrowed): what kf_shard_keep_sums was given; left out where it is very large. */
kf_status kf_facts_encode(const kf_shard_facts *f, json_t *sums, kf_buf *out, kf_err *err) KF_MUST_CHECK;
/* *sums: a new reference, NULL when there are none. */
kf_status kf_facts_decode(const void *data, size_t n, kf_shard_facts *f, json_t **sums, kf_err *err) KF_MUST_CHECK;
/* Map a shard's file and read its facts (no checksum); sound: compare every block with its own checksum, too. */
kf_status kf_shard_facts_of(const char *path, bool sound, kf_shard_facts *f, kf_err *err) KF_MUST_CHECK;
/* Whether they are those of this shard of a set. */
bool kf_facts_are(const kf_shard_facts *f, kf_fp identity, int shard, int of);
uint64_t kf_json_u64(const json_t *o, const char *name); /* 0 when absent or negative */

/* ---- blocks ---- */

/* A block: this header, then a codec's bytes. Little-endian; checksum is of all that follows it. */
typedef struct {
	uint32_t magic;            /* "KFB" and the codec's letter */
	uint32_t docs;
	uint64_t checksum;
} kf_block_head;
#define KF_BLOCK_MAGIC(letter) (0x0042464bu | (uint32_t)(letter) << 24) /* "KFB" and the letter, read as bytes */
#define KF_BLOCK_HEAD 16
#define KF_BLOCK_RAW ((size_t)4 << 20) /* a block is closed when its documents take about this much before compression: large, because
                                        * lists and tables of ids are learnt anew in every block */
#define KF_BLOCK_DOCS (1u << 20)       /* documents a block may have, and */
#define KF_BLOCK_HEADS ((size_t)16 << 20) /* about this much of their ids, with 24 bytes each for the rest of a head: then it is closed, too */
#define KF_BLOCK_TOKENS (1u << 24)     /* tokens, or bytes of text / 64, a block may have: bounds what a reader allocates */

#define KF_BLOCK_CONTEXT 4     /* of a block's flags: its documents are conversations */
#define KF_BLOCK_VALUES ((uint64_t)1 << 26) /* positions times k, and path masses: the same */

/* What a codec does for the writer. state is the codec's; it belongs to one shard writer. */
typedef struct {
	char letter;
	kf_status (*flush)(void *state, bool f32, kf_buf *out, uint32_t *docs, kf_err *err); /* encode what was put, and clear */
	void (*free_state)(void *state);
} kf_codec_writer;

struct kf_shard_writer {
	kf_set_writer *set;
	kf_set_kind kind;
	bool f32, chat;
	int shard;
	const kf_codec_writer *codec;
	void *state;               /* made by the first put */
	uint64_t last_doc, block_doc;
	size_t heads;              /* bytes that heads of the open block take, about */
	bool any, open_block;
	kf_shard_facts facts;
	json_t *sums;              /* NULL: none */
	kf_buf value;
	struct shard_env *env;     /* shard_write.c's */
};

/* Before a codec takes a record: order, head and kind are checked. After: count it; writes the block when it is
 * full (raw bytes of the block as the codec counts them). */
kf_status kf_shard_put_begin(kf_shard_writer *sw, const kf_dochead *head, kf_err *err) KF_MUST_CHECK;
kf_status kf_shard_put_end(kf_shard_writer *sw, const kf_dochead *head, uint64_t tokens, uint64_t hash, size_t raw,
	kf_err *err) KF_MUST_CHECK;
/* A document's hash, for the content checksum: of its head and of the hash of the rest. */
uint64_t kf_head_hash(const kf_dochead *h, uint64_t rest);
/* Close the block in hand, so that the next record begins one (also when its parameters differ). */
kf_status kf_shard_flush(kf_shard_writer *sw, kf_err *err) KF_MUST_CHECK;

struct kf_block_ref {
	uint64_t doc, first;       /* first document: its number, and its place in the shard */
	const uint8_t *data;
	size_t size;
	uint32_t docs;
};

/* What every codec's decoded block begins with. */
typedef struct {
	kf_arena arena;            /* of everything decoded; reset for every block */
	kf_head_n *heads;          /* (docs) */
	uint32_t docs;
	bool tokens_only;          /* set before decode: of logits, the candidates and their numbers are not asked for */
} kf_block_state;

/* What a codec does for the reader: decode the block's bytes (checksum verified, head skipped) of
 * `docs` documents into the state it made. */
typedef struct {
	char letter;
	kf_block_state *(*new_state)(void); /* NULL on no memory */
	void (*free_state)(kf_block_state *state);
	kf_status (*decode)(kf_block_state *state, const uint8_t *data, size_t n, uint32_t docs, bool f32, kf_err *err);
	const char *const *planes;          /* their names, NULL at the end */
	size_t prefix;                      /* bytes of the block before its planes */
	bool flags;                         /* the first of them is flags; the last plane is there with KF_BLOCK_CONTEXT only */
} kf_codec_reader;

extern const kf_codec_reader kf_codec_corpus, kf_codec_logits, kf_codec_logits_f32, kf_codec_dist, kf_codec_dist_f32;
const kf_codec_reader *kf_codec_of(kf_set_kind kind, bool f32);

struct kf_shard {
	char path[KF_PATH_MAX];
	kf_set_kind kind;
	const kf_codec_reader *codec;
	bool f32;
	kf_map map;
	struct kf_block_ref *blocks;
	size_t n_blocks, cap_blocks;
	uint64_t docs, next;       /* in all; the document the next read returns */
	kf_shard_facts facts;
	json_t *sums;              /* NULL: none */
	bool has_facts;
	kf_block_state *state;
	size_t loaded;             /* index + 1 of the block in state, 0: none */
	bool tokens_only;          /* what the call in hand wants of a block */
};

/* Make sure the block of the next document is decoded; *i gets the document's place in it. KF_END at the end. */
kf_status kf_shard_load(kf_shard *s, uint32_t *i, kf_err *err) KF_MUST_CHECK;
kf_status kf_head_copy(kf_dochead *out, const kf_dochead *h, kf_arena *arena, kf_err *err) KF_MUST_CHECK;
/* KF_EINVAL unless the kind is one of the mask's (1 << kind). */
kf_status kf_shard_kind(kf_set_kind have, unsigned mask, const char *what, kf_err *err) KF_MUST_CHECK;
kf_status kf_shard_open_file(const char *path, kf_shard **out, kf_err *err) KF_MUST_CHECK;

/* Call fn for every document's head, in order; decodes nothing else. */
kf_status kf_shard_heads(kf_shard *s, kf_status (*fn)(void *arg, const kf_head_n *head, kf_err *err), void *arg, kf_err *err)
	KF_MUST_CHECK;
/* Compare the file with the manifest's checksum. */
kf_status kf_shard_verify(const kf_set *set, int shard, const kf_shard *s, kf_err *err) KF_MUST_CHECK;
uint64_t kf_set_shard_disk(const kf_set *set, int shard);

/* For kf-inspect --sizes: add the packed size of every plane of a shard, and what is neither. */
kf_status kf_shard_plane_sizes(const kf_shard *s, uint64_t size[KF_MAX_PLANES], uint64_t *other, kf_err *err) KF_MUST_CHECK;

#endif
