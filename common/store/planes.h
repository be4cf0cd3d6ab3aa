/* Planes: a codec's block is a number of byte strings, each of values of one meaning, compressed one
 * by one with what suits it best; and the small encodings they share. */
#ifndef KF_STORE_PLANES_H
#define KF_STORE_PLANES_H

#include "common/base/mem.h"
#include "common/store/record.h"

#define KF_MAX_PLANES 64
#define KF_PLANES_RAW_MAX ((uint64_t)1 << 30) /* bytes all planes of a block may have: what a hostile block can ask for */

typedef struct kf_packer kf_packer;     /* a zstd compression context */
typedef struct kf_unpacker kf_unpacker;
/* level: of zstd, or KF_PACK_FAST: entropy coding of bytes only, but of the first plane, which is text: symbols of numbers do
 * not repeat, so that looking for repetitions costs two thirds of the time and, finding short ones, some size. NULL on no memory */
#define KF_PACK_FAST 0
kf_packer *kf_packer_new(int level);
void kf_packer_free(kf_packer *p);
kf_unpacker *kf_unpacker_new(void);
void kf_unpacker_free(kf_unpacker *u);

/* Append the planes to out: for each, varint raw size, varint packed size * 4 + method, then the bytes one after
 * another. */
kf_status kf_planes_pack(kf_packer *p, const kf_buf *planes, int n, kf_buf *out, kf_err *err) KF_MUST_CHECK;
/* Exactly n planes, and nothing after them. planes[i] are cleared and filled. */
kf_status kf_planes_unpack(kf_unpacker *u, kf_cur *in, kf_buf *planes, int n, kf_err *err) KF_MUST_CHECK;
/* The same of those of a mask only (1 << number); the others are cleared. */
kf_status kf_planes_unpack_some(kf_unpacker *u, kf_cur *in, kf_buf *planes, int n, uint64_t mask, kf_err *err) KF_MUST_CHECK;
/* Of n planes only the first, into plane. */
kf_status kf_planes_first(kf_unpacker *u, kf_cur *in, kf_buf *plane, int n, kf_err *err) KF_MUST_CHECK;
/* Packed size of each, headers left out. */
kf_status kf_planes_sizes(kf_cur *in, uint64_t *size, int n, kf_err *err) KF_MUST_CHECK;

/* n 32-bit values as four runs of n bytes, least significant first. get: false when the plane has another size. */
void kf_split_put(kf_buf *b, const void *v, size_t n);
bool kf_split_get(const kf_buf *b, void *v, size_t n);

/* Document heads, with a token count each, and a second number of the codec's own (0 where it has none). */
typedef struct { kf_dochead head; uint32_t n, more; const kf_turn *turns; } kf_head_n;
typedef struct {
	kf_buf domains;            /* of the block: NUL-terminated, in the order first seen */
	kf_buf heads;
	uint32_t docs, n_domains;
	uint64_t last_doc;
	uint32_t last_piece;
	char last_id[256];
	bool last_known;           /* last_id is the previous document's */
} kf_heads_enc;
/* turns (more): a corpus's conversations; NULL otherwise */
void kf_heads_put(kf_heads_enc *e, const kf_dochead *h, uint32_t n, uint32_t more, const kf_turn *turns);
void kf_heads_finish(kf_heads_enc *e, kf_buf *out); /* appends, and clears e for the next block */
void kf_heads_release(kf_heads_enc *e);
/* Decode docs heads; strings and the array live in arena. The token counts' sum is at most KF_BLOCK_TOKENS. turns: of a
 * corpus, where `more` counts turns. */
kf_status kf_heads_get(const kf_buf *plane, uint32_t docs, bool turns, kf_arena *arena, kf_head_n **out, kf_err *err) KF_MUST_CHECK;

/* The context of conversations (positions): for each document the lengths of runs, as varints: context first, then
 * not, and so on, to its n + 1 positions in all. get: KF_EDATA when the plane has something else. */
void kf_context_put(kf_buf *plane, const uint8_t *context, const uint32_t *n, uint32_t docs);
kf_status kf_context_get(const kf_buf *plane, const uint32_t *n, uint32_t docs, size_t positions, kf_arena *arena,
	uint8_t **out, kf_err *err) KF_MUST_CHECK;

#endif
