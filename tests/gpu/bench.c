/* Speed of the CUDA backend on a device, one JSON object a line.
 *
 *     bench shape NAME DIR                  write a model of that shape with random weights: config.json, model.safetensors
 *     bench device                          the device's name
 *     bench extract DIR LENGTH TOKENS       sequences of LENGTH, TOKENS a batch: top 10 with the normaliser
 *     bench train DIR LENGTH TOKENS f32|8bit   TOKENS a micro-batch, 4 of them a step
 *     bench decode DIR LENGTH SEQUENCES STEPS   SEQUENCES texts that begin with LENGTH tokens, STEPS tokens more of each
 *     bench kernels [quick]                 bytes a second of each of our own kernels; quick: of next to nothing, to see that all run
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/bf16.h"
#include "common/base/progress.h"
#include "common/base/rng.h"
#include "common/model/model.h"
#include "common/ops/backend.h"
#include "common/ops/cuda/cuda.h"
#include "train/optim.h"

/* ---- shapes ---- */

typedef struct {
	const char *name;
	int L, C, H, G, F, V;
	bool tied;
} shape;

static const shape SHAPES[] = {
	{ "135m", 30, 576, 9, 3, 1536, 49152, true },        /* SmolLM2-135M */
	{ "1b", 16, 2048, 32, 8, 8192, 128256, true },       /* Llama 3.2 1B */
	{ "7b", 32, 4096, 32, 32, 11008, 32000, false },     /* Llama 2 7B, OpenLLaMA 7B */
	{ "tiny", 2, 64, 4, 2, 128, 600, true },             /* to see that all works, where there is no device */
};

typedef struct { char name[80]; int rows, cols; } tensor;

static int tensors_of(const shape *s, tensor *t)
{
	static const struct { const char *name; int rows, cols; } PARTS[] = {   /* C 0, H D 1, G D 2, F 3; norms: one row */
		{ "input_layernorm", -1, 0 }, { "self_attn.q_proj", 1, 0 }, { "self_attn.k_proj", 2, 0 }, { "self_attn.v_proj", 2, 0 },
		{ "self_attn.o_proj", 0, 1 }, { "post_attention_layernorm", -1, 0 }, { "mlp.gate_proj", 3, 0 }, { "mlp.up_proj", 3, 0 },
		{ "mlp.down_proj", 0, 3 } };
	const int D = s->C / s->H, sizes[] = { s->C, s->H * D, s->G * D, s->F };
	int n = 0;

	t[n++] = (tensor){ "model.embed_tokens.weight", s->V, s->C };
	for (int l = 0; l < s->L; l++)
		for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++) {
			snprintf(t[n].name, sizeof t[n].name, "model.layers.%d.%s.weight", l, PARTS[i].name);
			t[n].rows = PARTS[i].rows < 0 ? 0 : sizes[PARTS[i].rows];
			t[n++].cols = sizes[PARTS[i].cols];
		}
	t[n++] = (tensor){ "model.norm.weight", 0, s->C };
	if (!s->tied) t[n++] = (tensor){ "lm_head.weight", s->V, s->C };
	return n;
}

static size_t numel(const tensor *t)
{
	return (size_t)(t->rows ? t->rows : 1) * (size_t)t->cols;
}

static int write_shape(const char *name, const char *dir)
{
	enum { BLOCK = 1 << 20 };
	const shape *s = NULL;
	tensor *t = kf_alloc(4000, sizeof *t);
	uint16_t *noise = kf_alloc(BLOCK, sizeof *noise), *ones = kf_alloc(BLOCK, sizeof *ones);
	char path[600], *head = kf_alloc(1 << 20, 1);
	uint64_t at = 0, len;
	kf_rng rng;
	FILE *f;
	int n;

	for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
		if (strcmp(SHAPES[i].name, name) == 0) s = &SHAPES[i];
	if (!s) return fprintf(stderr, "bench: no shape %s\n", name), 2;
	n = tensors_of(s, t);
	mkdir(dir, 0777);
	snprintf(path, sizeof path, "%s/config.json", dir);
	if (!(f = fopen(path, "w"))) return perror(path), 1;
	fprintf(f, "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_act\": \"silu\", \"hidden_size\": %d, "
		"\"intermediate_size\": %d, \"num_hidden_layers\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
		"\"vocab_size\": %d, \"max_position_embeddings\": 4096, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, "
		"\"tie_word_embeddings\": %s, \"torch_dtype\": \"bfloat16\"}\n", s->C, s->F, s->L, s->H, s->G, s->V, s->tied ? "true" : "false");
	fclose(f);

	len = (uint64_t)sprintf(head, "{");
	for (int i = 0; i < n; i++) {
		char dims[40];

		if (t[i].rows) snprintf(dims, sizeof dims, "%d,%d", t[i].rows, t[i].cols);
		else snprintf(dims, sizeof dims, "%d", t[i].cols);
		len += (uint64_t)sprintf(head + len, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}", i ? "," : "",
			t[i].name, dims, (unsigned long long)at, (unsigned long long)(at + 2 * numel(&t[i])));
		at += 2 * numel(&t[i]);
	}
	len += (uint64_t)sprintf(head + len, "}");
	while (len % 8) head[len++] = ' ';
	kf_rng_seed(&rng, 1);
	for (int i = 0; i < BLOCK; i++) {
		noise[i] = kf_f32_to_bf16((float)(0.02 * kf_rng_normal(&rng)));
		ones[i] = kf_f32_to_bf16(1);
	}
	snprintf(path, sizeof path, "%s/model.safetensors", dir);
	if (!(f = fopen(path, "wb"))) return perror(path), 1;
	fwrite(&len, 8, 1, f);   /* little-endian, as every machine with a device is */
	fwrite(head, 1, len, f);
	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < numel(&t[i]); k += BLOCK)
			fwrite(t[i].rows ? noise : ones, 2, numel(&t[i]) - k < BLOCK ? numel(&t[i]) - k : BLOCK, f);
	if (fclose(f) != 0) return perror(path), 1;
	kf_free(head);
	kf_free(noise);
	kf_free(ones);
	kf_free(t);
	return 0;
}

/* ---- models ---- */

typedef struct {
	kf_pool *pool;
	kf_exec *x;
	kf_weights *w;
	kf_model *m;
	size_t free_before;
	int32_t *tokens, *labels, *offset, *order;
	int T, S;
} rig;

static kf_status open_rig(rig *r, const char *dir, int length, int tokens, bool train, kf_err *err)
{
	const kf_model_opts opts = { .train = train };
	kf_rng rng;
	kf_status rc;
	int V;

	if ((rc = kf_pool_new(0, &r->pool, err)) != KF_OK ||
	    (rc = kf_exec_new(kf_ops_cuda(), r->pool, KF_COMPUTE_BF16, &r->x, err)) != KF_OK)
		return rc;
	if (!dir) return KF_OK;
	if ((rc = r->x->ops->memory(r->x, &r->free_before, err)) != KF_OK || (rc = kf_weights_open(dir, &r->w, err)) != KF_OK ||
	    (rc = kf_model_new(r->w, r->x, &opts, &r->m, err)) != KF_OK)
		return rc;
	V = kf_weights_arch(r->w)->V;
	r->T = tokens;
	r->S = (tokens + length - 1) / length;
	r->tokens = kf_alloc((size_t)tokens, 4);
	r->labels = kf_alloc((size_t)tokens, 4);
	r->offset = kf_alloc((size_t)r->S + 1, 4);
	r->order = kf_alloc((size_t)V, 4);
	kf_rng_seed(&rng, 2);
	for (int i = 0; i < tokens; i++) {
		r->tokens[i] = (int32_t)kf_rng_below(&rng, (uint64_t)V);
		r->labels[i] = (int32_t)kf_rng_below(&rng, (uint64_t)V);
	}
	for (int v = 0; v < V; v++) r->order[v] = v;
	for (int s = 0; s <= r->S; s++) r->offset[s] = s * length < tokens ? s * length : tokens;
	return KF_OK;
}

static void close_rig(rig *r)
{
	kf_model_free(r->m);
	kf_weights_close(r->w);
	kf_exec_free(r->x);
	kf_pool_free(r->pool);
	kf_free(r->tokens);
	kf_free(r->labels);
	kf_free(r->offset);
	kf_free(r->order);
}

/* What did the attention of these sequences: cuDNN where it is there and took the case, else our own kernels. To be asked after a run, in which
 * it may have refused. */
static const char *attention_by(kf_exec *x, const kf_attn *a, int S, const int32_t *offset, bool backward)
{
	kf_cuda_fused *f = kf_cuda_of(x)->fused;
	const kf_cuda_packed p = { .a = *a, .S = S, .T = offset[S], .longest = offset[1], .offset = offset };   /* the first is the longest */

	return kf_cuda_fused_fits(f, &p, backward) ? kf_cuda_fused_name(f) : "our own kernels";
}

static const char *attention_of(const rig *r, bool backward)
{
	const kf_arch *a = kf_weights_arch(r->w);
	const kf_attn at = { .H = a->H, .G = a->G, .D = a->D, .scale = a->attn_scale };

	return attention_by(r->x, &at, r->S, r->offset, backward);
}

/* Multiplications and additions a token of a forward: matrices, and attention over half the sequence on average. */
static double flops(const rig *r, int length)
{
	const kf_arch *a = kf_weights_arch(r->w);
	double n = 0;

	for (int i = 0; i < kf_weights_count(r->w); i++) {
		const kf_tensor *t = kf_weights_at(r->w, i);

		if (t->n_dims > 1 && !(i == 0 && !a->tied)) n += (double)t->rows * (double)t->cols;   /* the embedding only looks up */
	}
	return 2 * n + 4 * (double)a->L * a->H * a->D * length / 2;
}

static double used_gb(rig *r)
{
	size_t left = 0;

	(void)!r->x->ops->memory(r->x, &left, NULL);
	return (double)(r->free_before - left) * 1e-9;
}

static kf_status bench_extract(const char *dir, int length, int tokens, kf_err *err)
{
	enum { K = 10, WARM = 2, RUNS = 6 };
	rig r = { 0 };
	kf_status rc = open_rig(&r, dir, length, tokens, false, err);
	const kf_batch b = { .T = r.T, .S = r.S, .tokens = r.tokens, .offset = r.offset };
	const kf_score_query q = { .k = K, .labels = r.labels, .order = r.order };
	const size_t n = (size_t)tokens;
	kf_score s = { .ce = kf_alloc(n, 4), .top_ids = kf_alloc(n * K, 4), .top_lp = kf_alloc(n * K, 4) };
	double best = 0, sum = 0;

	for (int i = 0; i < WARM + RUNS && rc == KF_OK; i++) {
		double from = kf_now(), took;

		rc = kf_model_score(r.m, &b, &q, &s, err);
		took = kf_now() - from;
		if (i < WARM) continue;
		sum += took;
		if (best == 0 || took < best) best = took;
	}
	if (rc == KF_OK)
		printf("{\"work\": \"extract\", \"length\": %d, \"batch_tokens\": %d, \"tokens_per_second\": %.0f, \"best\": %.0f, "
			"\"tflops\": %.1f, \"memory_gb\": %.2f, \"attention\": \"%s\"}\n", length, tokens, tokens * RUNS / sum, tokens / best,
			flops(&r, length) * tokens * RUNS / sum * 1e-12, used_gb(&r), attention_of(&r, false));
	kf_free(s.ce);
	kf_free(s.top_ids);
	kf_free(s.top_lp);
	close_rig(&r);
	return rc;
}

static kf_status bench_train(const char *dir, int length, int tokens, bool eight, kf_err *err)
{
	enum { CAND = 10, MICRO = 4, WARM = 1, STEPS = 3 };
	const kf_train_opts o = { .beta1 = 0.9, .beta2 = 0.95, .decay = 0.1 };
	rig r = { 0 };
	kf_optim opt = { 0 };
	kf_status rc = open_rig(&r, dir, length, tokens, true, err);
	const kf_batch b = { .T = r.T, .S = r.S, .tokens = r.tokens, .offset = r.offset };
	const size_t n = (size_t)tokens;
	uint32_t *off = kf_alloc(n + 1, 4);
	int32_t *ids = kf_alloc(n * CAND, 4);
	float *p = kf_alloc(n * CAND, 4);
	const kf_loss_query q = { .labels = r.labels, .off = off, .ids = ids, .q = p, .lambda = 0.9, .temperature = 1, .scale = 1 };
	double sum = 0, optim = 0, last = 0, norm;

	for (size_t i = 0; i < n && rc == KF_OK; i++) {
		off[i] = (uint32_t)(i * CAND);
		for (size_t j = 0; j < CAND; j++) {
			ids[i * CAND + j] = (int32_t)((r.labels[i] + (int32_t)j * 37) % kf_weights_arch(r.w)->V);
			p[i * CAND + j] = 0.09f;
		}
	}
	off[n] = (uint32_t)(n * CAND);
	if (rc == KF_OK && (rc = kf_optim_init(&opt, r.m, r.x, eight, NULL, err)) == KF_OK) rc = kf_model_keep_free(r.m, err);
	for (int s = 0; s < WARM + STEPS && rc == KF_OK; s++) {
		double from = kf_now(), mid;
		kf_loss loss;

		kf_model_zero_grad(r.m);
		for (int i = 0; i < MICRO && rc == KF_OK; i++) rc = kf_model_loss(r.m, &b, &q, true, &loss, err);
		mid = kf_now();
		if (rc != KF_OK) break;
		if ((rc = kf_optim_norm(&opt, &norm, err)) == KF_OK && !isfinite(norm)) rc = kf_fail(err, KF_EDATA, "the gradient is not finite");
		kf_optim_step(&opt, &o, 1e-5, 1.0 / (MICRO * tokens), s + 1);
		if (rc == KF_OK) rc = r.x->ops->get_num(r.x, p, opt.params[0].value, opt.params[0].num, 1, err);   /* waits */
		p[0] = 0.09f;
		last = loss.clm / (double)loss.clm_rows;
		if (s < WARM) continue;
		sum += kf_now() - from;
		optim += kf_now() - mid;
	}
	if (rc == KF_OK)
		printf("{\"work\": \"train\", \"length\": %d, \"micro_tokens\": %d, \"step_tokens\": %d, \"moments\": \"%s\", \"tokens_per_second\": %.0f, "
			"\"tflops\": %.1f, \"optimizer_share\": %.3f, \"memory_gb\": %.2f, \"last_loss\": %.3f, \"attention\": \"%s\", "
			"\"attention_backward\": \"%s\"}\n", length, tokens,
			MICRO * tokens, eight ? "8bit" : "f32", tokens * MICRO * STEPS / sum, 3 * flops(&r, length) * tokens * MICRO * STEPS / sum * 1e-12,
			optim / sum, used_gb(&r), last, attention_of(&r, false), attention_of(&r, true));
	kf_optim_release(&opt);
	kf_free(off);
	kf_free(ids);
	kf_free(p);
	close_rig(&r);
	return rc;
}

/* Greedy, as kf-eval generates. A step reads all matrices (the tied one once, as the head) and every text's keys and values. */
static kf_status bench_decode(const char *dir, int length, int sequences, int steps, kf_err *err)
{
	enum { WARM = 8 };
	rig r = { 0 };
	kf_status rc = open_rig(&r, dir, length, length * sequences, false, err);
	const size_t S = (size_t)sequences;
	int32_t *row = kf_alloc(S, 4), *n = kf_zalloc(S, 4), *last = kf_alloc(S, 4), *one = kf_alloc(S + 1, 4), *next = kf_alloc(S, 4);
	float *ce = kf_alloc(S, 4), *lp = kf_alloc(S, 4);
	kf_before before = { NULL, row, n };
	kf_batch b = { .T = r.T, .S = r.S, .tokens = r.tokens, .offset = r.offset, .before = &before };
	const kf_score_query q = { .k = 1, .rows = last, .n_rows = sequences };
	kf_score s = { .ce = ce, .top_ids = next, .top_lp = lp };
	double from = kf_now(), prompts = 0, bytes = 0;

	if (rc == KF_OK) rc = kf_kv_new(r.m, sequences * (length + WARM + steps), &before.kv, err);
	for (int i = 0; i < sequences; i++) {
		row[i] = i * (length + WARM + steps);
		last[i] = (i + 1) * length - 1;
	}
	for (int i = 0; i <= sequences; i++) one[i] = i;
	for (int step = 0; step <= WARM + steps && rc == KF_OK; step++) {
		if (step == 1) prompts = kf_now() - from;
		if (step == 1 + WARM) from = kf_now();
		if ((rc = kf_model_score(r.m, &b, &q, &s, err)) != KF_OK) break;
		for (int i = 0; i < sequences; i++) {
			n[i] = length + step;
			last[i] = i;
		}
		b = (kf_batch){ .T = sequences, .S = sequences, .tokens = next, .offset = one, .before = &before };
	}
	if (rc == KF_OK) {
		const double took = (kf_now() - from) / steps;

		for (int i = 0; i < kf_weights_count(r.w); i++) {
			const kf_tensor *t = kf_weights_at(r.w, i);

			if (t->n_dims > 1 && !(i == 0 && !kf_weights_arch(r.w)->tied)) bytes += 2. * (double)t->rows * (double)t->cols;
		}
		bytes += (double)kf_kv_bytes(r.m) * sequences * (length + WARM + steps / 2);
		printf("{\"work\": \"decode\", \"length\": %d, \"sequences\": %d, \"tokens_per_second\": %.0f, \"milliseconds\": %.3f, "
			"\"gb_per_second\": %.0f, \"prompts_seconds\": %.3f, \"memory_gb\": %.2f}\n", length, sequences, sequences / took, took * 1e3,
			bytes / took * 1e-9, prompts, used_gb(&r));
	}
	kf_kv_free(before.kv);
	void *const own[] = { row, n, last, one, next, ce, lp };
	for (size_t i = 0; i < sizeof own / sizeof *own; i++) kf_free(own[i]);
	close_rig(&r);
	return rc;
}

/* ---- kernels ---- */

enum { TOP = 10, DEPTH = 64 };

typedef struct {
	kf_exec *x;
	void *big[5];            /* (T, F) each, bfloat16 */
	float *w, *stat, *master, *m, *v;
	int32_t *index;
	int T, C, F, S, keys;
	int V;                   /* the heads', of TOP candidates; hidden states of DEPTH, so that products are next to nothing beside logits */
	int32_t *order, *label, *ids, *top;
	uint32_t *off;
	float *q, *ce, *lp;
	kf_status rc;            /* of the first that failed */
	int32_t *offset;
	kf_attn a;
} arrays;

typedef void (*kernel)(arrays *k);

static void note(arrays *k, kf_status rc)
{
	if (k->rc == KF_OK) k->rc = rc;
}

static void k_add(arrays *k) { k->x->ops->add(k->x, k->big[0], k->big[1], (size_t)k->T * (size_t)k->C); }
static void k_glu(arrays *k) { k->x->ops->glu(k->x, k->big[0], k->big[1], k->big[2], KF_ACT_SILU, (size_t)k->T * (size_t)k->F); }
static void k_glu_dx(arrays *k)
{
	k->x->ops->glu_dx(k->x, k->big[1], k->big[2], k->big[0], k->big[1], k->big[2], KF_ACT_SILU, (size_t)k->T * (size_t)k->F);
}
static void k_rmsnorm(arrays *k) { k->x->ops->rmsnorm(k->x, k->big[0], k->stat, k->big[1], k->w, 1e-5f, k->T, k->C); }
static void k_rmsnorm_dx(arrays *k)
{
	k->x->ops->rmsnorm_dx(k->x, k->big[0], k->w + k->C, k->big[1], k->big[2], k->w, k->stat, k->T, k->C);
}
static void k_layernorm(arrays *k) { k->x->ops->layernorm(k->x, k->big[0], k->stat, k->big[1], k->w, NULL, 1e-5f, k->T, k->C); }
static void k_layernorm_dx(arrays *k)
{
	k->x->ops->layernorm_dx(k->x, k->big[0], k->w + k->C, NULL, k->big[1], k->big[2], k->w, k->stat, k->T, k->C);
}
static void k_rope(arrays *k)
{
	const kf_rotary r = { k->w, k->a.D, 1 };

	k->x->ops->rope(k->x, k->big[0], &r, k->offset, k->S, k->a.H, k->a.D, false);
}
static void k_split(arrays *k) { k->x->ops->split_qkv(k->x, k->big[3], k->big[0], k->big[1], k->big[2], k->T, &k->a, true, false); }
static void k_embed(arrays *k)
{
	const kf_mat t = { .rows = k->T, .cols = k->C, .num = k->big[1] };

	note(k, k->x->ops->embed(k->x, k->big[0], &t, k->index, 1, k->T, NULL));
}
static void k_embed_dw(arrays *k) { note(k, k->x->ops->embed_dw(k->x, k->big[0], k->big[1], k->index, 1, k->T, k->T, k->C, NULL)); }
static void k_sumsq(arrays *k) { (void)k->x->ops->sumsq(k->x, &(kf_nums){ k->big[0], KF_NUM_BF16, (size_t)k->T * (size_t)k->C }, 1); }
static void step_of(arrays *k, bool eight)
{
	kf_adamw a = { .type = KF_NUM_BF16, .w = k->big[0], .g = k->big[1], .master = k->master, .m = k->m, .v = k->v,
		.n = (size_t)k->T * (size_t)k->C };

	if (eight) {
		a.m8 = (int8_t *)k->m;
		a.v8 = (uint8_t *)k->v;
		a.m_scale = k->stat;
		a.v_scale = k->stat + a.n / KF_MOMENT_BLOCK + 1;
	}
	k->x->ops->adamw(k->x, &a, &(kf_adamw_opts){ 1, 1e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, 5 });
}
static void k_adamw(arrays *k) { step_of(k, false); }
static void k_adamw8(arrays *k) { step_of(k, true); }
static void k_attention(arrays *k)
{
	note(k, k->x->ops->attention(k->x, k->big[0], k->stat, k->big[1], k->big[2], k->big[3], k->offset, k->S, &k->a, NULL));
}
/* A token of each of 32 texts, after so many keys each. */
static void k_attention_after(arrays *k)
{
	enum { TEXTS = 32 };
	int32_t offset[TEXTS + 1], row[TEXTS], n[TEXTS];
	const kf_past past = { k->big[1], k->big[2], row, n };

	for (int i = 0; i <= TEXTS; i++) offset[i] = i;
	for (int i = 0; i < TEXTS; i++) {
		row[i] = i * k->keys;
		n[i] = k->keys;
	}
	note(k, k->x->ops->attention_after(k->x, k->big[0], k->big[4], k->big[3], k->big[3], offset, TEXTS, &past, &k->a, NULL));
}
static void k_attention_dx(arrays *k)
{
	const size_t n = (size_t)k->T * (size_t)k->C;

	note(k, k->x->ops->attention_dx(k->x, k->big[4], kf_at(k->x, k->big[4], n), kf_at(k->x, k->big[3], n), k->big[0], k->big[0], k->stat, k->big[1], k->big[2], k->big[3], k->offset,
		k->S, &k->a, NULL));
}

static void k_gather(arrays *k) { k->x->ops->gather(k->x, k->big[0], k->big[1], k->index, k->w, k->T, k->C); }
static void k_scatter(arrays *k) { k->x->ops->scatter(k->x, k->big[0], k->big[1], k->index, k->w, k->T, k->C); }
static void k_dots(arrays *k) { k->x->ops->dots(k->x, k->stat, k->big[0], k->big[1], k->index, k->T, k->C); }
static void k_store(arrays *k) { k->x->ops->store(k->x, k->big[0], k->big[1], k->order, k->T, k->C); }
static void k_head_score(arrays *k)
{
	const kf_mat w = { .rows = k->V, .cols = DEPTH, .num = k->big[1] };
	const kf_score_query q = { .k = TOP, .labels = k->label };
	kf_score out = { .ce = k->ce, .top_ids = k->top, .top_lp = k->lp };

	note(k, k->x->ops->head_score(k->x, k->big[0], &w, k->T, &q, &out, NULL));
}
static void k_head_loss(arrays *k)
{
	const kf_mat w = { .rows = k->V, .cols = DEPTH, .num = k->big[1] };
	const kf_loss_query q = { .labels = k->label, .off = k->off, .ids = k->ids, .q = k->q, .lambda = 0.5, .temperature = 1, .scale = 1e-4f };
	kf_loss loss;

	note(k, k->x->ops->head_loss(k->x, k->big[0], &w, k->T, &q, k->big[2], k->big[4], &loss, NULL));
}

static kf_status wait_for(kf_exec *x, const void *p, kf_err *err)
{
	float f;

	return x->ops->get(x, &f, p, sizeof f, err);
}

static kf_status bench_kernels(bool quick, kf_err *err)
{
	enum { S = 4 };
	const int T = quick ? 64 : 8192, C = quick ? 128 : 4096, F = quick ? 352 : 11008, keys = quick ? 4 : 512, runs = quick ? 1 : 20;
	const int V = quick ? 300 : 32000;
	const double tc = (double)T * C, tf = (double)T * F, tv = (double)T * V;
	const struct { const char *name; kernel run; double bytes, flops; bool own; } K[] = {
		/* the heads first: they want numbers that are finite. Logits written by the product, and read; and with gradients */
		{ "head_score, top 10", k_head_score, 8 * tv, 0, 0 }, { "head_loss, with gradients", k_head_loss, 22 * tv, 0, 0 },
		{ "add", k_add, 6 * tc, 0, 0 }, { "glu", k_glu, 6 * tf, 0, 0 }, { "glu_dx", k_glu_dx, 10 * tf, 0, 0 }, { "rmsnorm", k_rmsnorm, 4 * tc, 0, 0 },
		{ "rmsnorm_dx", k_rmsnorm_dx, 8 * tc, 0, 0 }, { "layernorm", k_layernorm, 4 * tc, 0, 0 }, { "layernorm_dx", k_layernorm_dx, 8 * tc, 0, 0 },
		{ "rope", k_rope, 4 * tc, 0, 0 }, { "split_qkv", k_split, 12 * tc, 0, 0 }, { "embed", k_embed, 4 * tc, 0, 0 },
		{ "embed_dw", k_embed_dw, 6 * tc, 0, 0 }, { "sumsq", k_sumsq, 2 * tc, 0, 0 }, { "adamw", k_adamw, 28 * tc, 0, 0 },
		{ "adamw, 8-bit moments", k_adamw8, 16 * tc, 0, 0 },
		{ "gather", k_gather, 4 * tc, 0, 0 }, { "scatter", k_scatter, 6 * tc, 0, 0 }, { "dots", k_dots, 4 * tc, 0, 0 },
		{ "store", k_store, 4 * tc, 0, 0 },
		{ "attention_after, 32 rows, 512 keys each", k_attention_after, 4. * 32 * keys * C, 0, 0 },
		{ "attention", k_attention, 0, 4 * (double)T * C * (T / S) / 2, 0 },
		{ "attention_dx", k_attention_dx, 0, 10 * (double)T * C * (T / S) / 2, 0 },
		{ "attention, soft cap", k_attention, 0, 4 * (double)T * C * (T / S) / 2, 1 },
		{ "attention_dx, soft cap", k_attention_dx, 0, 10 * (double)T * C * (T / S) / 2, 1 },
	};
	rig r = { 0 };
	arrays k = { .T = T, .C = C, .F = F, .S = S, .keys = keys, .a = { .H = C / 128, .G = C / 128, .D = 128, .scale = 0.088f } };
	int32_t offset[S + 1], *index = kf_alloc((size_t)T, 4);
	kf_status rc = open_rig(&r, NULL, 0, 0, false, err);
	const size_t n_host = (size_t)T * (size_t)F, n_floats = (size_t)T * (size_t)C;
	float *host = kf_alloc(n_host, sizeof *host);
	kf_rng rng;

	if (rc != KF_OK) return rc;
	k.x = r.x;
	k.offset = offset;
	k.index = index;
	k.V = V;
	k.order = kf_alloc((size_t)T, 4);
	k.label = kf_alloc((size_t)T, 4);
	k.ids = kf_alloc((size_t)T * TOP, 4);
	k.top = kf_alloc((size_t)T * TOP, 4);
	k.q = kf_alloc((size_t)T * TOP, 4);
	k.off = kf_alloc((size_t)T + 1, 4);
	k.ce = kf_alloc((size_t)T, 4);
	k.lp = kf_alloc((size_t)T * TOP, 4);
	for (int i = 0; i <= T; i++) k.off[i] = (uint32_t)(i * TOP);
	for (int i = 0; i < T; i++) {
		k.order[i] = T - 1 - i;
		k.label[i] = i % V;
		for (int j = 0; j < TOP; j++) {
			k.ids[i * TOP + j] = (i + j * (V / TOP)) % V;
			k.q[i * TOP + j] = 0.05f;
		}
	}
	kf_rng_seed(&rng, 3);
	for (int s = 0; s <= S; s++) offset[s] = s * (T / S);
	for (int i = 0; i < T; i++) index[i] = (int32_t)kf_rng_below(&rng, (uint64_t)T);
	for (size_t i = 0; i < n_host; i++) host[i] = (float)(i * 2654435761u % 2048) / 1024 - 1;
	float **floats[] = { &k.w, &k.stat, &k.master, &k.m, &k.v };
	for (size_t i = 0; i < 5 && rc == KF_OK; i++) {
		*floats[i] = r.x->ops->alloc(r.x, n_floats, 4);
		rc = *floats[i] ? r.x->ops->put_num(r.x, *floats[i], KF_NUM_F32, host, n_floats, err) : kf_fail(err, KF_ENOMEM, "no memory");
	}
	for (int i = 0; i < 5 && rc == KF_OK; i++) {
		k.big[i] = r.x->ops->alloc(r.x, (size_t)T * (size_t)(i == 3 && 3 * C > F ? 3 * C : F), 2);
		rc = k.big[i] ? r.x->ops->put_num(r.x, k.big[i], KF_NUM_BF16, host, n_host, err) : kf_fail(err, KF_ENOMEM, "no memory");
	}
	for (size_t i = 0; i < sizeof K / sizeof *K && rc == KF_OK; i++) {
		double from;

		k.a.cap = K[i].own ? 50 : 0;
		r.x->ops->zero(r.x, k.v, n_floats * 4);
		for (int warm = 0; warm < 3; warm++) K[i].run(&k);
		if ((rc = wait_for(r.x, k.w, err)) != KF_OK) break;
		from = kf_now();
		for (int n = 0; n < runs; n++) K[i].run(&k);
		if ((rc = wait_for(r.x, k.w, err)) != KF_OK) break;
		from = (kf_now() - from) / runs;
		if (k.rc != KF_OK) rc = kf_fail(err, k.rc, "%s failed: %s", K[i].name, kf_status_name(k.rc));
		if (rc != KF_OK) break;
		printf("{\"kernel\": \"%s\", \"microseconds\": %.1f", K[i].name, from * 1e6);
		if (K[i].run == k_attention || K[i].run == k_attention_dx)
			printf(", \"by\": \"%s\"", attention_by(r.x, &k.a, S, offset, K[i].run == k_attention_dx));
		if (K[i].bytes > 0) printf(", \"gb_per_second\": %.0f}\n", K[i].bytes / from * 1e-9);
		else printf(", \"tflops\": %.1f}\n", K[i].flops / from * 1e-12);
		fflush(stdout);
	}
	for (int i = 0; i < 5; i++) {
		if (k.big[i]) r.x->ops->free(r.x, k.big[i]);
		if (*floats[i]) r.x->ops->free(r.x, *floats[i]);
	}
	void *const own[] = { host, index, k.order, k.label, k.ids, k.top, k.off, k.q, k.ce, k.lp };
	for (size_t i = 0; i < sizeof own / sizeof *own; i++) kf_free(own[i]);
	close_rig(&r);
	return rc;
}

static kf_status device(kf_err *err)
{
	rig r = { 0 };
	size_t left = 0;
	kf_status rc = open_rig(&r, NULL, 0, 0, false, err);

	const kf_cuda_fused *fused = rc == KF_OK ? kf_cuda_of(r.x)->fused : NULL;

	if (rc == KF_OK && (rc = r.x->ops->memory(r.x, &left, err)) == KF_OK)
		printf("{\"device\": \"%s\", \"compute_capability\": \"%d.%d\", \"free_gb\": %.1f, \"attention\": \"%s\"}\n", kf_cuda_of(r.x)->dev.name,
			kf_cuda_of(r.x)->dev.sm / 10, kf_cuda_of(r.x)->dev.sm % 10, (double)left * 1e-9, fused ? kf_cuda_fused_name(fused) : "our own kernels");
	close_rig(&r);
	return rc;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	kf_err err = { 0 };
	kf_status rc;

	if (strcmp(what, "shape") == 0 && argc == 4) return write_shape(argv[2], argv[3]);
	if (!kf_ops_cuda()) {
		fprintf(stderr, "bench: this was built without CUDA\n");
		return 1;
	}
	if (strcmp(what, "device") == 0) rc = device(&err);
	else if (strcmp(what, "kernels") == 0) rc = bench_kernels(argc > 2 && strcmp(argv[2], "quick") == 0, &err);
	else if (strcmp(what, "extract") == 0 && argc == 5) rc = bench_extract(argv[2], atoi(argv[3]), atoi(argv[4]), &err);
	else if (strcmp(what, "decode") == 0 && argc == 6) rc = bench_decode(argv[2], atoi(argv[3]), atoi(argv[4]), atoi(argv[5]), &err);
	else if (strcmp(what, "train") == 0 && argc == 6) rc = bench_train(argv[2], atoi(argv[3]), atoi(argv[4]), strcmp(argv[5], "8bit") == 0, &err);
	else return fprintf(stderr, "usage: bench shape NAME DIR | device | kernels | extract DIR LENGTH TOKENS | decode DIR LENGTH SEQUENCES STEPS | train DIR LENGTH TOKENS f32|8bit\n"), 2;
	if (rc != KF_OK) fprintf(stderr, "bench: %s\n", err.text);
	return rc != KF_OK;
}
