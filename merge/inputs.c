#include "merge/inputs.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/failure.h"

/* ---- of one kind ---- */

/* What decides what is computed beside the tensors' shapes; context, bos and eos do not. */
static const char *difference(const kf_arch *a, const kf_arch *b, char text[128])
{
	const struct {
		const char *what;
		double a, b;
	} value[] = {
		{ "number of layers", a->L, b->L },
		{ "width", a->C, b->C },
		{ "number of heads", a->H, b->H },
		{ "number of key and value heads", a->G, b->G },
		{ "head size", a->D, b->D },
		{ "width of the MLP", a->F, b->F },
		{ "epsilon of the norms", a->norm_eps, b->norm_eps },
		{ "scale of embeddings", a->embed_scale, b->embed_scale },
		{ "scale of attention", a->attn_scale, b->attn_scale },
		{ "base of the rotary embedding", a->rope.base, b->rope.base },
		{ "kind of rotary scaling", a->rope.kind, b->rope.kind },
		{ "rotary scaling", a->rope.factor, b->rope.factor },
		{ "rotary scaling's low frequency", a->rope.low_freq, b->rope.low_freq },
		{ "rotary scaling's high frequency", a->rope.high_freq, b->rope.high_freq },
		{ "rotary scaling's context", a->rope.original_context, b->rope.original_context },
		{ "attention factor", a->rope.scale, b->rope.scale },
		{ "rounding of rotary scaling", a->rope.truncate, b->rope.truncate },
		{ "share of a head that is rotary", a->R, b->R },
		{ "base of the local rotary embedding", a->rope_local.base, b->rope_local.base },
		{ "kind of local rotary scaling", a->rope_local.kind, b->rope_local.kind },
		{ "local rotary scaling", a->rope_local.factor, b->rope_local.factor },
		{ "soft cap of attention", a->attn_cap, b->attn_cap }, { "soft cap of logits", a->logit_cap, b->logit_cap },
		{ "order of attention and MLP", a->parallel, b->parallel }, { "largest exponent of ALiBi", a->alibi, b->alibi },
		{ "number of experts", a->experts, b->experts }, { "number of experts a token", a->experts_used, b->experts_used },
		{ "attention window", a->window, b->window }, { "activation", a->act, b->act },
	};

	for (size_t i = 0; i < sizeof value / sizeof *value; i++)
		if (value[i].a != value[i].b) {
			snprintf(text, 128, "its %s is %.9g, not %.9g", value[i].what, value[i].b, value[i].a);
			return text;
		}
	for (int i = 0; i < a->R / 2 && a->rope.kind == KF_ROPE_LONGROPE; i++)
		if (a->rope.shorter[i] != b->rope.shorter[i] || a->rope.longer[i] != b->rope.longer[i]) {
			snprintf(text, 128, "frequency %d of its LongRoPE is another", i);
			return text;
		}
	for (int i = 0; i < a->L; i++)
		if (a->windowed[i] != b->windowed[i]) {
			snprintf(text, 128, "layer %d has another kind of attention", i);
			return text;
		}
	return NULL;
}

static kf_status check_tensors(const kf_weights *a, const kf_weights *b, kf_err *err)
{
	const char *first = kf_weights_path(a), *path = kf_weights_path(b);

	for (int i = 0; i < kf_weights_count(a); i++) {
		const kf_tensor *s = kf_weights_at(a, i), *t = kf_weights_find(b, s->name);
		if (!t)
			return kf_fail(err, KF_EMISMATCH,
				"%s lacks tensor %s, which %s has; models to merge have the same tensors", path, s->name,
				first);
		if (s->rows != t->rows || s->cols != t->cols || s->n_dims != t->n_dims)
			return kf_fail(err, KF_EMISMATCH,
				"%s: tensor %s is %" PRIu64 " x %" PRIu64 ", in %s it is %" PRIu64 " x %" PRIu64
				"; models to merge have the same shapes",
				path, s->name, t->rows, t->cols, first, s->rows, s->cols);
	}
	for (int i = 0; i < kf_weights_count(b); i++)
		if (!kf_weights_find(a, kf_weights_at(b, i)->name))
			return kf_fail(err, KF_EMISMATCH,
				"%s has tensor %s, which %s lacks; models to merge have the same tensors", path,
				kf_weights_at(b, i)->name, first);
	return KF_OK;
}

/* *tokenizer: the model's, the caller's. */
static kf_status check_same(const kf_merge_inputs *in, const kf_weights *w, kf_tokenizer **tokenizer, kf_err *err)
{
	const kf_arch *a = kf_weights_arch(in->first), *b = kf_weights_arch(w);
	const char *first = kf_weights_path(in->first), *path = kf_weights_path(w);
	char text[128];
	kf_fp own, theirs;
	kf_status rc;

	if (a->family != b->family)
		return kf_fail(err, KF_EMISMATCH,
			"%s is a %s model, %s a %s one; models to merge are of one architecture", path,
			kf_family_name(b->family), first, kf_family_name(a->family));
	if ((rc = check_tensors(in->first, w, err)) != KF_OK) return rc;
	if (difference(a, b, text))
		return kf_fail(err, KF_EMISMATCH, "%s computes in another way than %s: %s", path, first, text);
	if ((rc = kf_weights_tokenizer(w, tokenizer, err)) != KF_OK) return rc;
	if (!kf_fp_equal(kf_tokenizer_fp(*tokenizer), kf_tokenizer_fp(in->tokenizer)) && (rc = kf_tokenizer_text_fp(*tokenizer, &theirs, err)) == KF_OK &&
	    (rc = kf_tokenizer_text_fp(in->tokenizer, &own, err)) == KF_OK && !kf_fp_equal(own, theirs))
		rc = kf_fail(err, KF_EMISMATCH, "%s has another tokenizer than %s; models to merge have the same",
			path, first);
	return rc;
}

/* ---- open ---- */

kf_status kf_merge_open(kf_merge_inputs *in, const char *pivot, const kf_list *models, kf_err *err)
{
	kf_tokenizer *one = NULL, *model = NULL;
	bool agree = true;
	kf_status rc;

	memset(in, 0, sizeof *in);
	if (pivot && (rc = kf_weights_open(pivot, &in->pivot, err)) != KF_OK) goto fail;
	for (int i = 0; i < models->n; i++, in->n++)
		if ((rc = kf_weights_open(models->item[i], &in->model[i], err)) != KF_OK) goto fail;
	in->first = in->pivot ? in->pivot : in->model[0];
	if ((rc = kf_weights_tokenizer(in->first, &in->tokenizer, err)) != KF_OK) goto fail;
	for (int i = in->pivot ? 0 : 1; i < in->n; i++) {
		if ((rc = check_same(in, in->model[i], &model, err)) != KF_OK) goto fail;
		agree = agree && (!one || kf_tokenizer_same_chat_templates(one, model));
		if (one) kf_tokenizer_free(model);
		else one = model;
		model = NULL;
	}
	/* what the models were trained with since they left the pivot */
	if (in->pivot && agree && kf_tokenizer_chat_template(one) && !kf_tokenizer_same_chat_templates(one, in->tokenizer)) {
		if ((rc = kf_tokenizer_take_chat_templates(in->tokenizer, one, err)) != KF_OK) goto fail;
		in->models_template = true;
	}
	kf_tokenizer_free(one);
	return KF_OK;
fail:
	kf_tokenizer_free(model);
	kf_tokenizer_free(one);
	kf_merge_close(in);
	return rc;
}

void kf_merge_close(kf_merge_inputs *in)
{
	kf_tokenizer_free(in->tokenizer);
	kf_weights_close(in->pivot);
	for (int i = 0; i < in->n; i++) kf_weights_close(in->model[i]);
	memset(in, 0, sizeof *in);
}

/* ---- what they are ---- */

struct prints {
	kf_weights *const *w;
	kf_fp *fp;
	kf_failure failure;
};

static void print_one(void *arg, size_t i, int worker)
{
	struct prints *p = arg;
	kf_err err;
	kf_status rc = kf_weights_fp(p->w[i], &p->fp[i], &err);

	(void)worker;
	if (rc != KF_OK) kf_failure_note(&p->failure, (int)i, rc, &err);
}

static bool add_fp(json_t *to, const char *role, kf_fp fp)
{
	char hex[KF_FP_HEX];

	kf_fp_hex(fp, hex);
	return json_object_set_new(to, role, json_string(hex)) == 0;
}

kf_status kf_merge_fingerprints(const kf_merge_inputs *in, kf_pool *pool, json_t **out, kf_err *err)
{
	kf_weights *w[KF_MERGE_MODELS + 1];
	kf_fp fp[KF_MERGE_MODELS + 1];
	struct prints p = { .w = w, .fp = fp, .failure = KF_FAILURE };
	json_t *fps = json_object();
	int n = 0;
	bool ok = fps != NULL;

	*out = NULL;
	if (in->pivot) w[n++] = in->pivot;
	for (int i = 0; i < in->n; i++) w[n++] = in->model[i];
	kf_pool_run(pool, (size_t)n, print_one, &p);
	if (p.failure.rc != KF_OK) {
		json_decref(fps);
		*err = p.failure.err;
		return p.failure.rc;
	}
	if (in->pivot) ok = ok && add_fp(fps, "pivot", fp[0]);
	for (int i = 0; i < in->n; i++) {
		char role[32];

		snprintf(role, sizeof role, "model %d", i + 1);
		ok = ok && add_fp(fps, role, fp[n - in->n + i]);
	}
	ok = ok && add_fp(fps, "tokenizer", kf_tokenizer_fp(in->tokenizer));
	if (in->models_template) {
		const char *text = kf_tokenizer_chat_template(in->tokenizer);

		ok = ok && add_fp(fps, "chat template", kf_fp_of(text, strlen(text)));
	}
	if (!ok) {
		json_decref(fps);
		return kf_fail(err, KF_ENOMEM, "no memory for fingerprints");
	}
	*out = fps;
	return KF_OK;
}

kf_dtype kf_merge_common_dtype(const kf_merge_inputs *in)
{
	kf_dtype all = kf_weights_at(in->model[0], 0)->dtype;

	if (all != KF_F16 && all != KF_BF16) return KF_F32;
	for (int j = 0; j < in->n; j++)
		for (int i = 0; i < kf_weights_count(in->model[j]); i++) {
			const kf_tensor *t = kf_weights_at(in->model[j], i);
			if (t->n_dims == 2 && t->dtype != all) return KF_F32;
		}
	return all;
}
