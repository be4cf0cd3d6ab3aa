/* Sequences that go on: rotary positions, attention to what stands before them, and rows put into a cache.
 *
 * Which block has which rows and keys is worked out here, once a batch. Sequences of few rows are read row by row, each row's keys in runs
 * of KF_CUDA_SPLIT; others in tiles of KF_CUDA_MANY rows. Neither depends on the other sequences of the batch. */
#include "common/ops/cuda/ops.h"

enum { FEW = 8 };   /* rows of a sequence: with more, a tile of rows reads keys fewer times than rows one by one */

void kf_cuda_op_rope_after(kf_exec *x, void *v, const kf_rotary *r, const int32_t *offset, const int32_t *first, int S, int heads, int D)
{
	kf_cuda *c = kf_cuda_of(x);
	const kf_cuda_ints in[] = { { offset, (size_t)S + 1 }, { first, (size_t)S } };
	const size_t T = (size_t)offset[S];
	kf_err *err = kf_cuda_later(c);
	const int32_t *sent;

	if (!kf_cuda_same(&c->places_of, in, 2)) {
		if (kf_cuda_keep(&c->places_of, in, 2, err) != KF_OK) return;
		if (!(sent = kf_cuda_upload(c, c->places_of.v, c->places_of.n * sizeof *sent, err)) ||
		    !(c->places = kf_cuda_scratch(c, KF_CUDA_PLACES, T * sizeof *c->places, "the positions of a batch's rows", err))) {
			c->places_of.n = 0;
			return;
		}
		kf_cuda_note(c, kf_cuda_spans(c->places, NULL, sent, sent + S + 1, S, (int)T, c->dev.stream), "positions");
	}
	kf_cuda_note(c, kf_cuda_rope(x->num, v, r, c->places, (int)T, heads, D, false, c->dev.stream), "rope_after");
}

/* Pieces being made; with NULLs they are only counted. */
typedef struct {
	kf_cuda_piece *few, *many;
	kf_cuda_joint *joint;
	size_t n_few, n_many, n_joint, n_parts;
} plan;

/* Row `row` of a sequence sees row + 1 keys. */
static void add_row(plan *p, int32_t own, int32_t n, int32_t past, int32_t row)
{
	const int32_t pieces = row / KF_CUDA_SPLIT + 1;

	if (pieces > 1) {
		if (p->joint) p->joint[p->n_joint] = (kf_cuda_joint){ own + row, (int32_t)p->n_parts, pieces };
		p->n_joint++;
	}
	for (int32_t i = 0; i < pieces; i++) {
		if (p->few)
			p->few[p->n_few] = (kf_cuda_piece){ own, n, past, i * KF_CUDA_SPLIT, i + 1 < pieces ? (i + 1) * KF_CUDA_SPLIT : row + 1, row,
				pieces > 1 ? (int32_t)p->n_parts : -1 };
		p->n_few++;
		p->n_parts += pieces > 1;
	}
}

/* Tiles of rows [n, end), the longest first. */
static void add_tiles(plan *p, int32_t own, int32_t n, int32_t past, int32_t end)
{
	for (int32_t i = (end - n - 1) / KF_CUDA_MANY; i >= 0; i--) {
		const int32_t from = n + i * KF_CUDA_MANY;

		if (p->many)
			p->many[p->n_many] = (kf_cuda_piece){ own, n, past, from, end - from < KF_CUDA_MANY ? end : from + KF_CUDA_MANY, 0, -1 };
		p->n_many++;
	}
}

static void make_plan(plan *p, const int32_t *offset, int S, const kf_past *past)
{
	p->n_few = p->n_many = p->n_joint = p->n_parts = 0;
	for (int s = 0; s < S; s++) {
		const int32_t rows = offset[s + 1] - offset[s], n = past->n[s], own = offset[s] - n;

		if (rows > FEW) add_tiles(p, own, n, past->row[s], n + rows);
		for (int32_t i = 0; i < rows && rows <= FEW; i++) add_row(p, own, n, past->row[s], n + i);
	}
}

/* The pieces of a batch, on the device, in c->after. */
static kf_status see_pieces(kf_cuda *c, const int32_t *offset, int S, const kf_past *past, kf_err *err)
{
	const kf_cuda_ints in[] = { { offset, (size_t)S + 1 }, { past->n, (size_t)S }, { past->row, (size_t)S } };
	size_t pieces, bytes;
	plan p = { 0 };
	void *host, *sent;

	if (kf_cuda_same(&c->after_of, in, 3)) return KF_OK;
	make_plan(&p, offset, S, past);
	pieces = p.n_few + p.n_many;
	if (pieces > INT32_MAX)
		return kf_fail(err, KF_EUNSUPPORTED, "attention of %d sequences in %zu pieces: on CUDA there are at most %d. Use smaller batches.", S,
			pieces, INT32_MAX);
	bytes = pieces * sizeof *p.few + p.n_joint * sizeof *p.joint;
	if (!(host = kf_alloc(bytes, 1))) return kf_fail(err, KF_ENOMEM, "attention: no memory for a list of %zu pieces", pieces);
	p.few = host;
	p.many = p.few + p.n_few;
	p.joint = (kf_cuda_joint *)(p.many + p.n_many);
	make_plan(&p, offset, S, past);
	c->after_of.n = 0;
	sent = kf_cuda_hold(c, KF_CUDA_AFTER, host, bytes, "a list of pieces of attention", err);
	kf_free(host);
	if (!sent) return c->rc;
	c->after = (kf_cuda_past){ .few = sent, .n_few = (int)p.n_few, .n_many = (int)p.n_many, .n_joint = (int)p.n_joint,
		.n_parts = (int)p.n_parts };
	c->after.many = c->after.few + p.n_few;
	c->after.joint = (const kf_cuda_joint *)(c->after.many + p.n_many);
	return kf_cuda_keep(&c->after_of, in, 3, err);
}

kf_status kf_cuda_op_attention_after(kf_exec *x, void *out, const void *q, const void *k, const void *v, const int32_t *offset, int S,
	const kf_past *past, const kf_attn *a, kf_err *err)
{
	kf_cuda *c = kf_cuda_of(x);
	kf_status rc = kf_cuda_check_heads(a, err);
	kf_cuda_past p;
	void *work;

	if (rc != KF_OK || (rc = see_pieces(c, offset, S, past, err)) != KF_OK) return rc;
	p = c->after;
	p.k = past->k;
	p.v = past->v;
	if (!(work = kf_cuda_scratch(c, KF_CUDA_WORK, kf_cuda_attention_few_scratch(p.n_parts, a), "attention over many keys", err)))
		return c->rc;
	if ((rc = kf_cuda_check(c, kf_cuda_attention_few(x->num, out, q, k, v, &p, a, work, c->dev.stream), "attention_after", err)) != KF_OK)
		return rc;
	return kf_cuda_check(c, kf_cuda_attention_many(x->num, out, q, k, v, &p, a, c->dev.stream), "attention_after", err);
}

void kf_cuda_op_store(kf_exec *x, void *y, const void *in, const int32_t *index, int n, int C)
{
	kf_cuda *c = kf_cuda_of(x);
	const kf_cuda_ints ints = { index, (size_t)n };
	kf_err *err = kf_cuda_later(c);

	if (!kf_cuda_same(&c->index_of, &ints, 1)) {
		c->index_of.n = 0;
		if (!(c->index = kf_cuda_hold(c, KF_CUDA_INDEX, index, (size_t)n * sizeof *index, "the places of rows", err)) ||
		    kf_cuda_keep(&c->index_of, &ints, 1, err) != KF_OK)
			return;
	}
	kf_cuda_note(c, kf_cuda_store(x->num, y, in, c->index, n, C, c->dev.stream), "store");
}
