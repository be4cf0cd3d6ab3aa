#include "common/model/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/progress.h"
#include "common/model/model_impl.h"

enum { PROBES = 3 };

struct kf_stream {
	kf_model *m;
	kf_reader *reader;
	char *dir;                 /* of the scratch file; NULL: memory */
	int fd;                    /* -1: memory */
	size_t size;               /* bytes there are for residual streams */
	char *held;                /* (size) without a file; with one, a batch's */
	size_t held_size;
	float *rows;               /* (T, C) embedding rows, where the backend cannot gather them itself */
	int32_t *iota;             /* (T) */
	size_t gathered;           /* T that there is room for in these two */
	uint64_t blocks;
};

/* ---- weights: wanted, loaded, dropped ---- */

static bool matrix(const kf_slot *s) { return s && s->file->n_dims > 1; }

static kf_status want(kf_model *m, kf_slot *s, bool first, kf_err *err)
{
	if (!matrix(s) || s->wanted)
		return KF_OK;
	s->wanted = true;
	return kf_reader_want(m->reader, s->file, first, err);
}

static kf_status load(kf_model *m, kf_slot *s, kf_err *err)
{
	return matrix(s) && m->x->ops->resident && !s->value ? kf_slot_load(m, s, err) : KF_OK;
}

static void drop(kf_model *m, kf_slot *s)
{
	if (!matrix(s) || !s->wanted)
		return;
	if (m->x->ops->resident)
		kf_slot_unload(m, s);
	kf_weights_drop(s->file);
	s->wanted = false;
}

/* What is known to be needed of a layer: all but its experts. l == L: the head. */
static kf_status each_part(kf_model *m, int l, kf_status (*fn)(kf_model *, kf_slot *, kf_err *), kf_err *err)
{
	kf_status rc = KF_OK;

	if (l == m->arch->L)
		return fn(m, m->head, err);
	for (int p = 0; p < KF_PARTS && rc == KF_OK; p++)
		rc = fn(m, m->layers[l].p[p], err);
	return rc;
}

static kf_status want_later(kf_model *m, kf_slot *s, kf_err *err) { return want(m, s, false, err); }

static void drop_layer(kf_model *m, int l)
{
	for (int p = 0; p < KF_PARTS; p++)
		drop(m, m->layers[l].p[p]);
	for (int e = 0; e < m->arch->experts * KF_EXPERT_PARTS; e++)
		drop(m, m->layers[l].expert[e]);
}

/* Before what is read ahead for later, and in the order of use: the first is put in front last. */
kf_status kf_stream_experts(kf_model *m, const kf_layer *y, kf_err *err)
{
	kf_status rc;

	for (int part = KF_EXPERT_PARTS; part-- > 0; )
		for (int e = m->arch->experts; e-- > 0; )
			if (m->start[e + 1] > m->start[e] &&
			    (rc = want(m, y->expert[e * KF_EXPERT_PARTS + part], true, err)) != KF_OK)
				return rc;
	for (int e = 0; e < m->arch->experts; e++)
		for (int part = 0; part < KF_EXPERT_PARTS; part++)
			if (m->start[e + 1] > m->start[e] &&
			    (rc = load(m, y->expert[e * KF_EXPERT_PARTS + part], err)) != KF_OK)
				return rc;
	return KF_OK;
}

/* ---- residual streams ---- */

static kf_status open_scratch(kf_stream *s, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_status rc;

	s->fd = open(s->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (s->fd >= 0)
		return KF_OK;
	/* file systems without it: a name for as long as it takes to remove it */
	if ((rc = kf_path_join(path, s->dir, ".kf-scratch.XXXXXX", err)) != KF_OK)
		return rc;
	if ((s->fd = mkostemp(path, O_CLOEXEC)) < 0)
		return kf_fail_errno(err, "cannot make a scratch file in %s", s->dir);
	if (unlink(path))
		return kf_fail_errno(err, "cannot remove the name of the scratch file %s", path);
	return KF_OK;
}

static kf_status grow(char **p, size_t *have, size_t need, kf_err *err)
{
	if (need <= *have)
		return KF_OK;
	kf_free(*p);
	*have = 0;
	if (!(*p = kf_alloc(need, 1)))
		return kf_fail(err, KF_ENOMEM, "no memory for the activations of a block (%.1f MB); use fewer --stream-tokens, "
			"or --scratch", (double)need * 1e-6);
	*have = need;
	return KF_OK;
}

/* Room for a block, of which the largest batch takes `largest` bytes. */
static kf_status room(kf_stream *s, size_t bytes, size_t largest, kf_err *err)
{
	int e;

	if (s->fd < 0)
		return grow(&s->held, &s->held_size, bytes, err);
	if (bytes > s->size) {
		/* now, not when the disk turns out to be full in the middle of a layer */
		while ((e = posix_fallocate(s->fd, 0, (off_t)bytes)) == EINTR) { }
		if (e) {
			errno = e;
			return kf_fail_errno(err, "cannot have %.1f MB for activations in %s", (double)bytes * 1e-6, s->dir);
		}
		s->size = bytes;
	}
	return grow(&s->held, &s->held_size, largest, err);
}

static kf_status transfer(kf_stream *s, size_t at, size_t bytes, bool write, kf_err *err)
{
	for (size_t done = 0; done < bytes; ) {
		ssize_t n = write ? pwrite(s->fd, s->held + done, bytes - done, (off_t)(at + done))
			: pread(s->fd, s->held + done, bytes - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return kf_fail_errno(err, "cannot %s activations in %s", write ? "write" : "read", s->dir);
		if (n == 0)
			return kf_fail(err, KF_EIO, "cannot read activations in %s: they end early", s->dir);
		done += (size_t)n;
	}
	return KF_OK;
}

/* The residual stream of a batch out of its place (at, bytes), and into it. */
static kf_status fetch(kf_stream *s, size_t at, size_t bytes, kf_err *err)
{
	kf_exec *x = s->m->x;
	kf_status rc;

	if (s->fd < 0)
		return x->ops->put(x, s->m->inputs, s->held + at, bytes, err);
	if ((rc = transfer(s, at, bytes, false, err)) != KF_OK)
		return rc;
	posix_fadvise(s->fd, (off_t)(at + bytes), (off_t)bytes, POSIX_FADV_WILLNEED);   /* the next batch's */
	return x->ops->put(x, s->m->inputs, s->held, bytes, err);
}

static kf_status store(kf_stream *s, size_t at, size_t bytes, kf_err *err)
{
	kf_exec *x = s->m->x;
	kf_status rc;

	if (s->fd < 0)
		return x->ops->get(x, s->held + at, s->m->inputs, bytes, err);
	rc = x->ops->get(x, s->held, s->m->inputs, bytes, err);
	return rc == KF_OK ? transfer(s, at, bytes, true, err) : rc;
}

/* ---- embedding ---- */

/* The rows that the block's tokens have are read in the order of the file, not as each is met. */
static kf_status hint_embedding(kf_model *m, const kf_stream_block *b, kf_err *err)
{
	int32_t *row = kf_zalloc((size_t)m->arch->V, sizeof *row);
	size_t n = 0;

	if (!row)
		return kf_fail(err, KF_ENOMEM, "no memory for the list of tokens of a block");
	for (size_t i = 0; i < b->n; i++)
		for (int t = 0; t < b->batch[i].T; t++)
			row[b->batch[i].tokens[t]] = 1;
	for (int32_t v = 0; v < m->arch->V; v++)
		if (row[v])
			row[n++] = v;
	kf_reader_hint_rows(m->embed->file, row, n);
	kf_free(row);
	return KF_OK;
}

/* Where the backend wants matrices in its memory, a matrix of this batch's rows stands for the embedding. */
static kf_status embed(kf_stream *s, const kf_batch *b, kf_err *err)
{
	kf_model *m = s->m;
	kf_exec *x = m->x;
	const size_t T = (size_t)b->T, C = (size_t)m->arch->C;
	kf_mat rows = { .rows = b->T, .cols = m->arch->C, .num = m->tmp };
	kf_status rc;

	if (!x->ops->resident)
		return x->ops->embed(x, m->inputs, &m->embed->mat, b->tokens, m->arch->embed_scale, b->T, err);
	if (T > s->gathered) {
		kf_free(s->rows);
		kf_free(s->iota);
		s->gathered = 0;
		s->rows = kf_alloc(T * C, sizeof *s->rows);
		s->iota = kf_alloc(T, sizeof *s->iota);
		if (!s->rows || !s->iota)
			return kf_fail(err, KF_ENOMEM, "no memory for the embeddings of %d tokens", b->T);
		for (size_t t = 0; t < T; t++)
			s->iota[t] = (int32_t)t;
		s->gathered = T;
	}
	kf_tensor_gather(m->embed->file, b->tokens, T, s->rows);
	if ((rc = x->ops->put_num(x, m->tmp, x->num, s->rows, T * C, err)) != KF_OK)
		return rc;
	return x->ops->embed(x, m->inputs, &rows, s->iota, m->arch->embed_scale, b->T, err);
}

/* ---- a block ---- */

static kf_status blamed(const kf_stream_block *b, size_t i, kf_status rc, kf_err *err)
{
	return rc != KF_OK && b->blame ? b->blame(b->arg, i, rc, err) : rc;
}

static size_t batch_bytes(const kf_stream *s, const kf_batch *b)
{
	return kf_num_bytes(s->m, (size_t)b->T * (size_t)s->m->arch->C);
}

/* Every batch through layer l, or, l == L, before the head. */
static kf_status pass(kf_stream *s, const kf_stream_block *b, int l, double share, kf_err *err)
{
	kf_model *m = s->m;
	kf_status rc = KF_OK;
	size_t at = 0;

	for (size_t i = 0; i < b->n; i++) {
		const kf_batch *one = &b->batch[i];
		const size_t bytes = batch_bytes(s, one);
		const kf_score_query *q;
		kf_score *answers;

		if ((rc = kf_model_room(m, one, false, err)) != KF_OK)
			return rc;
		if ((rc = l ? fetch(s, at, bytes, err) : embed(s, one, err)) != KF_OK)
			return blamed(b, i, rc, err);
		if (l < m->arch->L) {
			if ((rc = kf_model_layer(m, l, one, m->inputs, m->inputs, &m->spare, err)) != KF_OK ||
			    (rc = store(s, at, bytes, err)) != KF_OK)
				return blamed(b, i, rc, err);
		} else {
			if ((rc = b->ask(b->arg, i, &q, &answers, err)) != KF_OK)
				return rc;
			if ((rc = kf_model_answer(m, one, m->inputs, q, answers, err)) != KF_OK)
				return blamed(b, i, rc, err);
			b->take(b->arg, i);
		}
		if (b->step)
			b->step(b->arg, i, share);
		at += bytes;
	}
	return KF_OK;
}

/* Parts of the work that a layer and the head are, by their matrices; an expert counts as often as it is used. */
static void shares(const kf_model *m, double *layer, double *head)
{
	const kf_arch *a = m->arch;
	double one = 0, top = (double)a->V * a->C;

	for (int p = 0; p < KF_PARTS; p++)
		if (matrix(m->layers[0].p[p]))
			one += (double)m->layers[0].p[p]->file->rows * (double)m->layers[0].p[p]->file->cols;
	for (int p = 0; a->experts && p < KF_EXPERT_PARTS; p++)
		one += a->experts_used * (double)m->layers[0].expert[p]->file->rows * (double)m->layers[0].expert[p]->file->cols;
	*layer = one / (one * a->L + top);
	*head = top / (one * a->L + top);
}

kf_status kf_stream_run(kf_stream *s, const kf_stream_block *b, kf_err *err)
{
	kf_model *m = s->m;
	const int L = m->arch->L;
	size_t bytes = 0, largest = 0;
	double layer, head;
	kf_status rc;

	for (size_t i = 0; i < b->n; i++) {
		const size_t one = batch_bytes(s, &b->batch[i]);

		if ((rc = kf_model_check(m, &b->batch[i], err)) != KF_OK)
			return blamed(b, i, rc, err);
		if (b->batch[i].before && b->batch[i].before->kv)
			return kf_fail(err, KF_EINVAL, "a model that is streamed has no cache for sequences that go on");
		bytes += one;
		if (one > largest)
			largest = one;
	}
	if ((rc = room(s, bytes, largest, err)) != KF_OK)
		return rc;
	shares(m, &layer, &head);
	m->reader = s->reader;
	/* of a block that is not the first this much was read while the head of the last one was at work */
	if ((rc = each_part(m, 0, want_later, err)) != KF_OK || (rc = hint_embedding(m, b, err)) != KF_OK)
		goto out;
	for (int l = 0; l <= L; l++) {
		if ((rc = kf_reader_wait(s->reader, err)) != KF_OK || (rc = each_part(m, l, load, err)) != KF_OK)
			goto out;
		if ((l < L || b->more) && (rc = each_part(m, l < L ? l + 1 : 0, want_later, err)) != KF_OK)
			goto out;
		if ((rc = pass(s, b, l, l < L ? layer : head, err)) != KF_OK)
			goto out;
		if (l < L)
			drop_layer(m, l);
		else
			drop(m, m->head);
		if (l == 0 && !m->embed->wanted)   /* rows were read as they were met */
			kf_weights_drop(m->embed->file);
	}
	s->blocks++;
out:
	m->reader = NULL;
	return rc;
}

/* A backend may be at work still when an op returns; reading a number of its result waits for it. */
static kf_status settled(kf_model *m, kf_err *err)
{
	char one[4];

	return m->x->ops->get(m->x, one, m->inputs, kf_num_size(m->x->num), err);
}

kf_status kf_stream_probe(kf_stream *s, const kf_batch *b, const kf_score_query *q, kf_score *out, double *layer,
	double *head, kf_err *err)
{
	kf_model *m = s->m;
	kf_status rc;

	*layer = *head = INFINITY;
	if ((rc = kf_model_check(m, b, err)) != KF_OK || (rc = kf_model_room(m, b, false, err)) != KF_OK)
		return rc;
	m->reader = s->reader;
	if ((rc = each_part(m, 0, want_later, err)) != KF_OK || (rc = each_part(m, m->arch->L, want_later, err)) != KF_OK ||
	    (rc = kf_reader_wait(s->reader, err)) != KF_OK || (rc = each_part(m, 0, load, err)) != KF_OK ||
	    (rc = each_part(m, m->arch->L, load, err)) != KF_OK)
		goto out;
	for (int i = 0; i < PROBES; i++) {
		double from;

		if ((rc = embed(s, b, err)) != KF_OK || (rc = settled(m, err)) != KF_OK)
			goto out;
		from = kf_now();
		if ((rc = kf_model_layer(m, 0, b, m->inputs, m->inputs, &m->spare, err)) != KF_OK ||
		    (rc = settled(m, err)) != KF_OK)
			goto out;
		*layer = fmin(*layer, kf_now() - from);
		from = kf_now();
		if ((rc = kf_model_answer(m, b, m->inputs, q, out, err)) != KF_OK)   /* answers are in host memory: settled */
			goto out;
		*head = fmin(*head, kf_now() - from);
		/* what routing chose was read, and not by the reader alone, in the first */
	}
out:
	drop_layer(m, 0);
	drop(m, m->head);
	m->reader = NULL;
	return rc;
}

/* ---- making one ---- */

kf_status kf_stream_new(kf_model *m, const char *scratch, kf_stream **out, kf_err *err)
{
	kf_stream *s = kf_zalloc(1, sizeof *s);
	kf_status rc;

	*out = NULL;
	if (!s)
		return kf_fail(err, KF_ENOMEM, "no memory to run a model layer by layer");
	s->m = m;
	s->fd = -1;
	if (!m->opts.stream) {
		rc = kf_fail(err, KF_EINVAL, "the model was not made to be streamed");
		goto fail;
	}
	if (scratch && !(s->dir = kf_strdup(scratch))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory to run a model layer by layer");
		goto fail;
	}
	if (scratch && (rc = open_scratch(s, err)) != KF_OK)
		goto fail;
	if ((rc = kf_reader_new(&s->reader, err)) != KF_OK)
		goto fail;
	*out = s;
	return KF_OK;
fail:
	kf_stream_free(s);
	return rc;
}

void kf_stream_free(kf_stream *s)
{
	if (!s)
		return;
	kf_reader_free(s->reader);
	if (s->fd >= 0)
		close(s->fd);
	kf_free(s->held);
	kf_free(s->rows);
	kf_free(s->iota);
	kf_free(s->dir);
	kf_free(s);
}

kf_stream_stats kf_stream_get_stats(const kf_stream *s)
{
	const kf_reader_stats r = kf_reader_get_stats(s->reader);

	return (kf_stream_stats){ s->blocks, r.bytes, r.reading, r.waited };
}

/* ---- sizes ---- */

size_t kf_stream_token_bytes(const kf_arch *a, kf_num_type num)
{
	return (size_t)a->C * kf_num_size(num);
}

kf_stream_sizes kf_stream_sizes_of(const kf_weights *w)
{
	const kf_arch *a = kf_weights_arch(w);
	kf_stream_sizes z = { 0 };
	uint64_t one[KF_MAX_LAYERS] = { 0 }, values[KF_MAX_LAYERS] = { 0 };

	for (int i = 0; i < kf_weights_count(w); i++) {
		const kf_tensor *t = kf_weights_at(w, i);
		const kf_place at = kf_arch_place(a, i);
		const uint64_t n = kf_dtype_row_bytes(t->dtype, t->cols) * t->rows;

		z.all += n;
		z.values += t->rows * t->cols;
		if (t->n_dims > 1 && at.layer >= 0)
			z.per_token += (double)t->rows * (double)t->cols * (at.expert >= 0 ? (double)a->experts_used / a->experts : 1);
		if (at.layer >= 0) {
			one[at.layer] += n;
			values[at.layer] += t->rows * t->cols;
			z.layers += n;
			if (at.expert >= 0)
				z.experts += n;
		} else if (at.part == KF_P_EMBED) {
			z.embed = n;
		} else if (at.part == KF_P_HEAD) {
			z.head = n;
		}
	}
	if (a->tied)
		z.head = z.embed;
	for (int l = 0; l < a->L; l++) {
		const uint64_t two = one[l] + (l + 1 < a->L ? one[l + 1] : z.head);

		if (one[l] > z.layer)
			z.layer = one[l];
		if (two > z.resident)
			z.resident = two;
	}
	if (z.head + one[0] > z.resident)
		z.resident = z.head + one[0];
	z.a_block = z.layers + z.head;
	z.per_answer = (double)a->V * a->C;
	z.resident_values = (uint64_t)a->V * (uint64_t)a->C;
	for (int l = 0; l < a->L; l++)
		if (values[l] > z.resident_values)
			z.resident_values = values[l];
	return z;
}
