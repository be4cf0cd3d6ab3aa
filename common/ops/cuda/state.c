/* What the CUDA backend keeps between calls: scratch memory, uploads, and what was last seen of a batch's sequences. */
#include "common/ops/cuda/cuda.h"

#include <limits.h>
#include <string.h>

enum { RING = 64 << 20, GAP = 256 };

static kf_status no_memory(size_t bytes, const char *what, kf_err *err)
{
	size_t left = 0, total = 0;
	const int code = kf_cuda_memory(&left, &total);

	/* after a kernel that failed nothing is to be had any more */
	if (code != 0) return kf_cuda_status(code, what, err);
	return kf_fail(err, KF_ENOMEM, "no memory on the device for %s: %.1f MB are needed, %.1f MB of %.1f are free. Use smaller "
		"batches (--batch-tokens; kf-train: --micro-tokens), or see who else holds some (nvidia-smi).", what, (double)bytes * 1e-6,
		(double)left * 1e-6, (double)total * 1e-6);
}

kf_status kf_cuda_open(kf_exec *x, kf_err *err)
{
	kf_cuda *c = kf_zalloc(1, sizeof *c);
	kf_status rc;

	if (!c) return kf_fail(err, KF_ENOMEM, "out of memory for the CUDA backend");
	x->state = c;
	x->num = x->compute == KF_COMPUTE_BF16 ? KF_NUM_BF16 : KF_NUM_F32;
	if ((rc = kf_cuda_device_open(&c->dev, x->device, err)) != KF_OK ||
	    (rc = kf_cuda_gemm_new(&c->dev, &c->gemm, err)) != KF_OK ||
	    (rc = kf_cuda_fused_new(&c->dev, &c->fused, err)) != KF_OK)
		goto fail;
	c->ring_size = RING;
	c->ring = kf_cuda_device_alloc(RING);
	c->pinned = kf_cuda_pinned_alloc(RING);
	c->bounce = kf_cuda_pinned_alloc(2 * (size_t)KF_CUDA_BOUNCE);
	if (!c->ring || !c->pinned || !c->bounce) {
		rc = no_memory(RING, "what the host sends", err);
		goto fail;
	}
	return KF_OK;
fail:
	kf_cuda_close(x);
	return rc;
}

void kf_cuda_close(kf_exec *x)
{
	kf_cuda *c = x->state;

	if (!c) return;
	if (c->dev.stream) (void)kf_cuda_sync(c->dev.stream);
	for (int i = 0; i < KF_CUDA_SLOTS; i++) kf_cuda_device_free(c->slot[i].p);
	kf_cuda_device_free(c->ring);
	kf_cuda_pinned_free(c->pinned);
	kf_cuda_pinned_free(c->bounce);
	kf_free(c->spans_of.v);
	kf_free(c->places_of.v);
	kf_free(c->after_of.v);
	kf_free(c->index_of.v);
	kf_free(c->order_host);
	kf_cuda_fused_free(c->fused);
	kf_cuda_gemm_free(c->gemm);
	kf_cuda_device_close(&c->dev);
	kf_free(c);
	x->state = NULL;
}

void *kf_cuda_scratch(kf_cuda *c, int slot, size_t bytes, const char *what, kf_err *err)
{
	kf_cuda_block *b = &c->slot[slot];

	if (b->p && bytes <= b->size) return b->p;
	kf_cuda_device_free(b->p);   /* waits until the device is done with it */
	b->size = 0;
	b->p = kf_cuda_device_alloc(bytes);
	if (!b->p) c->rc = no_memory(bytes, what, err);
	else b->size = bytes;
	return b->p;
}

kf_status kf_cuda_room(kf_cuda *c, size_t bytes, kf_err *err)
{
	int code;

	if (bytes <= c->ring_size - c->ring_at) return KF_OK;
	/* what is in the ring may still be read */
	if ((code = kf_cuda_sync(c->dev.stream)) != 0) return kf_cuda_check(c, code, "waiting for the device", err);
	c->ring_at = 0;
	if (bytes <= c->ring_size) return KF_OK;
	kf_cuda_device_free(c->ring);
	kf_cuda_pinned_free(c->pinned);
	c->ring_size = 0;
	c->ring = kf_cuda_device_alloc(bytes);
	c->pinned = kf_cuda_pinned_alloc(bytes);
	if (!c->ring || !c->pinned) return no_memory(bytes, "what the host sends", err);
	c->ring_size = bytes;
	return KF_OK;
}

void *kf_cuda_upload(kf_cuda *c, const void *host, size_t bytes, kf_err *err)
{
	size_t padded = (bytes + GAP - 1) & ~(size_t)(GAP - 1), at;
	int code;

	if ((c->rc = kf_cuda_room(c, padded, err)) != KF_OK) return NULL;
	at = c->ring_at;
	if (bytes) memcpy(c->pinned + at, host, bytes);
	if ((code = kf_cuda_copy_in(c->ring + at, c->pinned + at, bytes, c->dev.stream)) != 0) {
		c->rc = kf_cuda_check(c, code, "sending to the device", err);
		return NULL;
	}
	c->ring_at += padded;
	return c->ring + at;
}

kf_err *kf_cuda_later(kf_cuda *c)
{
	return c->first.code == KF_OK ? &c->first : NULL;
}

void kf_cuda_note(kf_cuda *c, int code, const char *op)
{
	if (code) (void)!kf_cuda_status(code, op, kf_cuda_later(c));
}

kf_status kf_cuda_check(kf_cuda *c, int code, const char *op, kf_err *err)
{
	if (c->first.code == KF_OK) return kf_cuda_status(code, op, err);
	if (err) *err = c->first;
	return c->first.code;
}

void *kf_cuda_hold(kf_cuda *c, int slot, const void *host, size_t bytes, const char *what, kf_err *err)
{
	void *p = kf_cuda_scratch(c, slot, bytes, what, err), *sent;

	if (!p || !(sent = kf_cuda_upload(c, host, bytes, err))) return NULL;
	c->rc = kf_cuda_check(c, kf_cuda_copy(p, sent, bytes, c->dev.stream), what, err);
	return c->rc == KF_OK ? p : NULL;
}

bool kf_cuda_same(const kf_cuda_seen *s, const kf_cuda_ints *in, int n)
{
	size_t at = 0;

	for (int i = 0; i < n; at += in[i++].n)
		if (in[i].n > s->n - at || (in[i].n && memcmp(s->v + at, in[i].v, in[i].n * sizeof *s->v) != 0)) return false;
	return at == s->n;
}

kf_status kf_cuda_keep(kf_cuda_seen *s, const kf_cuda_ints *in, int n, kf_err *err)
{
	size_t all = 0;

	for (int i = 0; i < n; i++) all += in[i].n;
	s->n = 0;
	if (all > s->cap) {
		kf_free(s->v);
		s->cap = 0;
		if (!(s->v = kf_alloc(2 * all, sizeof *s->v))) return kf_fail(err, KF_ENOMEM, "no memory for the outlines of a batch");
		s->cap = 2 * all;
	}
	for (int i = 0; i < n; s->n += in[i++].n) memcpy(s->v + s->n, in[i].v, in[i].n * sizeof *s->v);
	return KF_OK;
}

/* begin and end of every row are made on the device once a batch, not once an op. */
kf_status kf_cuda_see_spans(kf_cuda *c, const int32_t *offset, int S, kf_err *err)
{
	const kf_cuda_ints in = { offset, (size_t)S + 1 };
	const size_t T = (size_t)offset[S];
	int32_t *on_device;

	if (kf_cuda_same(&c->spans_of, &in, 1)) return KF_OK;
	c->spans_of.n = 0;
	if (!(on_device = kf_cuda_upload(c, offset, in.n * sizeof *offset, err)) ||
	    !(c->begin = kf_cuda_scratch(c, KF_CUDA_SPANS, 2 * T * sizeof *c->begin, "the sequences' bounds", err)))
		return c->rc;
	c->end = c->begin + T;
	c->longest = 0;
	for (int s = 0; s < S; s++)
		if (offset[s + 1] - offset[s] > c->longest) c->longest = offset[s + 1] - offset[s];
	if ((c->rc = kf_cuda_keep(&c->spans_of, &in, 1, err)) != KF_OK) return c->rc;
	return kf_cuda_check(c, kf_cuda_spans(c->begin, c->end, on_device, NULL, S, (int)T, c->dev.stream), "the sequences' bounds", err);
}
