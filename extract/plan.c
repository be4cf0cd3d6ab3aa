#include "extract/plan.h"

#include <math.h>
#include <string.h>

#include "common/model/readahead.h"

enum {
	ALL_BYTES = 1 << 20,       /* of text: so much is encoded whole */
	SAMPLED = 200,             /* documents otherwise */
	LEAST_READ = 32 << 20,     /* a read speed of less is not told */
	MOST_READ = 128 << 20,     /* read for no other purpose than to time it */
	PROBE_MOST = 768,          /* tokens */
	LMDB = 15000               /* bytes of a shard whatever it holds */
};

#define PROBE_FLOPS 2e11       /* of the largest probe: about a second where there is no more than a core or two */

/* ---- the text ---- */

typedef struct {
	kf_arena arena;
	kf_group docs;
} sample;

/* Documents of this part, every `step`-th of them; where one is of another fold, the next that is asked. */
static kf_status read_sample(kf_extractor *x, uint64_t step, sample *s, kf_extract_plan *p, kf_err *err)
{
	const kf_extract_opts *o = x->o;
	kf_shard *in = NULL;
	uint64_t next = step / 2, before = 0;   /* in the order of the part's documents */
	kf_status rc = KF_OK;

	for (int i = o->part; i < kf_set_shards(x->corpus) && rc == KF_OK; i += o->parts) {
		const uint64_t n = kf_set_shard_docs(x->corpus, i);

		if (next < before + n && (rc = kf_shard_open(x->corpus, i, &in, err)) != KF_OK) break;
		while (next < before + n) {
			kf_group *d = &s->docs;
			kf_corpus_rec *rec;

			if ((rc = kf_group_reserve(d, err)) != KF_OK || (rc = kf_shard_seek(in, next - before, err)) != KF_OK) break;
			rec = &d->docs[d->n];
			if ((rc = kf_shard_next_corpus(in, &s->arena, rec, err)) != KF_OK) break;
			if (!kf_extract_asked(o, &rec->head)) {
				next++;
				continue;
			}
			if ((rc = kf_run_encode(x->tokenizer, x->chat, rec, &s->arena, &d->enc[d->n++], err)) != KF_OK) break;
			p->sampled_bytes += rec->head.bytes;
			next += step;
		}
		kf_shard_close(in);
		in = NULL;
		before += n;
	}
	p->sampled_documents = s->docs.n;
	return rc;
}

static kf_status count_text(kf_extractor *x, sample *s, kf_run_work *work, kf_extract_plan *p, kf_err *err)
{
	const kf_extract_opts *o = x->o;
	kf_runner counting = x->runner;
	kf_run *run;
	double share, scale;
	kf_status rc;

	for (int i = o->part; i < kf_set_shards(x->corpus); i += o->parts, p->shards++) p->documents += kf_set_shard_docs(x->corpus, i);
	share = kf_set_docs(x->corpus) ? (double)p->documents / (double)kf_set_docs(x->corpus) : 0;
	p->bytes = (uint64_t)((double)kf_set_bytes(x->corpus) * share);
	p->exact = p->bytes <= ALL_BYTES || p->documents <= SAMPLED;
	if ((rc = read_sample(x, p->exact ? 1 : p->documents / SAMPLED, s, p, err)) != KF_OK) return rc;
	if (p->exact) {
		p->documents = p->sampled_documents;
		p->bytes = p->sampled_bytes;
	} else {
		p->documents /= (uint64_t)o->folds;
		p->bytes /= (uint64_t)o->folds;
	}
	counting.k = 1;
	counting.byte_path = false;
	if ((rc = kf_run_plan(&counting, s->docs.docs, s->docs.enc, s->docs.n, &s->arena, &run, err)) != KF_OK) return rc;
	*work = (kf_run_work){ 0 };
	kf_run_count(run, kf_weights_arch(x->weights)->window, work);
	scale = p->sampled_bytes ? (double)p->bytes / (double)p->sampled_bytes : 0;
	p->tokens = (double)work->tokens * scale;
	p->fed = (double)work->fed * scale;
	p->asked = (double)work->asked * scale;
	work->pairs *= scale;
	work->pairs_windowed *= scale;
	p->batches = (uint64_t)ceil(p->fed / (double)o->batch_tokens);
	return KF_OK;
}

/* ---- the machine ---- */

/* Up to MOST_READ bytes of layers after the first that are not in memory, read for the time it takes. */
static kf_status probe_reading(kf_extractor *x, kf_extract_plan *p, kf_err *err)
{
	kf_tensor part[64];
	uint64_t bytes = 0;
	size_t n = 0;
	kf_reader *r;
	double from;
	kf_status rc;

	for (int i = 0; i < kf_weights_count(x->weights); i++) {
		kf_tensor t = *kf_weights_at(x->weights, i);
		const uint64_t row = kf_dtype_row_bytes(t.dtype, t.cols), all = row * t.rows;

		p->cached += kf_reader_cached(&t) < all ? kf_reader_cached(&t) : all;
		if (kf_arch_place(kf_weights_arch(x->weights), i).layer < 1 || n == 64 || bytes >= MOST_READ || kf_reader_cached(&t))
			continue;
		if (all > MOST_READ - bytes) t.rows = (MOST_READ - bytes + row - 1) / row;
		part[n++] = t;
		bytes += row * t.rows;
	}
	if (bytes < LEAST_READ) return KF_OK;
	if ((rc = kf_reader_new(&r, err)) != KF_OK) return rc;
	from = kf_now();
	for (size_t i = 0; i < n && rc == KF_OK; i++) rc = kf_reader_want(r, &part[i], false, err);
	if (rc == KF_OK) rc = kf_reader_wait(r, err);
	p->read_bytes = bytes;
	p->read_rate = (double)bytes / (kf_now() - from);
	kf_reader_free(r);
	for (size_t i = 0; i < n; i++) kf_weights_drop(&part[i]);
	return rc;
}

/* Seconds of a layer and of the head for a batch of about T tokens of the sample; *fed is how many it was. */
static kf_status probe_batch(kf_extractor *x, const sample *s, int T, size_t *fed, double *layer, double *head, kf_err *err)
{
	kf_runner one = x->runner;
	kf_arena arena;
	kf_run *run;
	kf_batch b;
	kf_question q;
	size_t docs = 0, tokens = 0;
	kf_status rc;

	one.batch_tokens = T;
	if (one.context > T) one.context = T < 2 ? 2 : T;
	while (docs < s->docs.n && tokens < (size_t)T) tokens += s->docs.enc[docs++].n + 1;
	kf_arena_init(&arena);
	*fed = 0;
	if ((rc = kf_run_plan(&one, s->docs.docs, s->docs.enc, docs, &arena, &run, err)) != KF_OK || !kf_run_batches(run)) goto out;
	if ((rc = kf_run_feed(run, 0, &arena, &b, err)) != KF_OK || (rc = kf_run_ask(run, 0, &arena, &q, err)) != KF_OK) goto out;
	rc = kf_stream_probe(x->stream, &b, &q.q, &q.out, layer, head, err);
	*fed = (size_t)b.T;
out:
	kf_arena_release(&arena);
	return rc;
}

/* A line through two times: what a batch costs by itself (weights unpacked), and a token. */
static void line(double t1, double t2, double n1, double n2, double *fixed, double *token)
{
	*token = n2 > n1 ? (t2 - t1) / (n2 - n1) : 0;
	if (*token <= 0) *token = t2 / n2;
	*fixed = t2 - *token * n2;
	if (*fixed < 0) *fixed = 0;
}

static kf_status probe_computing(kf_extractor *x, const sample *s, kf_extract_plan *p, kf_err *err)
{
	const kf_stream_sizes *z = &p->budget.weights;
	const double flops = 2 * (z->per_token / p->layers + z->per_answer);
	double layer[2], head[2];
	size_t fed[2];
	int T = flops > 0 && PROBE_FLOPS / flops < PROBE_MOST ? (int)(PROBE_FLOPS / flops) : PROBE_MOST;
	kf_status rc;

	if (T > x->o->batch_tokens) T = (int)x->o->batch_tokens;
	if (T < 32) T = 32;
	if ((rc = probe_batch(x, s, T / 3, &fed[0], &layer[0], &head[0], err)) != KF_OK ||
	    (rc = probe_batch(x, s, T, &fed[1], &layer[1], &head[1], err)) != KF_OK)
		return rc;
	if (!fed[0] || !fed[1]) return KF_OK;
	p->probe_tokens = (int)fed[1];
	line(layer[0], layer[1], (double)fed[0], (double)fed[1], &p->layer_fixed, &p->layer_token);
	line(head[0], head[1], (double)fed[0], (double)fed[1], &p->head_fixed, &p->head_token);
	p->flop_rate = 2 * z->per_token / p->layers / p->layer_token;
	return KF_OK;
}

/* ---- the sum ---- */

/* Bytes a token of the output, as SmolLM2-135M's on the demo's text: k = 10 and 50, packed and not, with the byte path and without.
 * Other models took up to a tenth more. */
static double output_bytes(const kf_extract_opts *o)
{
	const double k = (double)o->top_k;

	if (o->f32) return 4 + 4.36 * k + (o->byte_path ? 19 : 0);
	return 0.9 + 1.68 * k + (o->byte_path ? 4.6 : 0);
}

static void add_up(const kf_extractor *x, const kf_run_work *work, kf_extract_plan *p)
{
	const kf_arch *a = kf_weights_arch(x->weights);
	const kf_stream_sizes *z = &p->budget.weights;
	double attention = 0, layer, head, read, blocks, layer_read, head_read;

	for (int l = 0; l < a->L; l++) attention += a->windowed[l] ? work->pairs_windowed : work->pairs;
	attention *= 4.0 * a->H * a->D;   /* scores, and the sum they weigh */
	p->flops = 2 * z->per_token * p->fed + 2 * z->per_answer * p->asked + attention;
	p->output = (uint64_t)(p->tokens * output_bytes(x->o)) + (uint64_t)p->shards * LMDB;
	if (p->fed < (double)p->budget.block) kf_budget_block(&p->budget, (size_t)ceil(p->fed));
	p->blocks = p->budget.block ? (uint64_t)ceil(p->fed / (double)p->budget.block) : 0;
	if (!p->probe_tokens) return;

	layer = p->layer_fixed * (double)p->batches + p->layer_token * p->fed + attention / a->L / p->flop_rate;
	head = p->head_fixed * (double)p->batches + p->head_token * p->asked;
	p->computing = layer * a->L + head;
	/* what is in the kernel's cache costs next to nothing; of an unknown disk nothing is counted */
	read = p->read_bytes ? 1 / p->read_rate : 0;
	p->fingerprint = (double)(z->all - p->cached) * read;
	p->in_memory = p->fingerprint + p->computing;
	if (!p->budget.fits) p->in_memory += (double)p->batches * (double)z->all * read;   /* each batch reads them all again */
	/* a layer and what is read meanwhile; the first layer of the first block is waited for */
	blocks = (double)p->blocks;
	layer_read = (double)z->layers / a->L * read;
	head_read = (double)z->head * read;
	if (p->budget.fits) layer_read = head_read = 0;   /* read once and kept in the cache */
	p->streaming = p->fingerprint + layer_read + blocks * (fmax(layer / blocks, layer_read) * a->L + fmax(head / blocks, head_read));
}

kf_status kf_extract_make_plan(const kf_extract_opts *o, kf_extract_plan *p, kf_err *err)
{
	kf_extractor x;
	kf_run_work work;
	sample s = { 0 };
	kf_status rc;

	*p = (kf_extract_plan){ .batch_tokens = (int)o->batch_tokens };
	kf_arena_init(&s.arena);
	if ((rc = kf_extractor_open(&x, o, err)) != KF_OK) goto out;
	p->way_open = o->compute == KF_COMPUTE_AUTO && kf_set_bytes(x.corpus) >= KF_WAY_BYTES;
	p->layers = kf_weights_arch(x.weights)->L;
	snprintf(p->model, sizeof p->model, "%s", o->model);
	if ((rc = kf_extractor_start(&x, err)) != KF_OK || (rc = kf_extract_budget(&x, &p->budget, err)) != KF_OK ||
	    (rc = kf_extractor_load(&x, true, err)) != KF_OK)
		goto out;
	if ((rc = count_text(&x, &s, &work, p, err)) != KF_OK) goto out;
	if ((rc = probe_reading(&x, p, err)) != KF_OK) goto out;
	if ((rc = probe_computing(&x, &s, p, err)) != KF_OK) goto out;
	add_up(&x, &work, p);
out:
	kf_group_release(&s.docs);
	kf_arena_release(&s.arena);
	kf_extractor_release(&x);
	return rc;
}
