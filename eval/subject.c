#include "eval/subject.h"

#include <string.h>

#include "common/text/utf8.h"

kf_status kf_subject_open(kf_subject *s, const char *path, kf_err *err)
{
	kf_status rc;

	s->path = path;
	if ((rc = kf_weights_open(path, &s->weights, err)) != KF_OK) return rc;
	s->context = kf_weights_arch(s->weights)->context;
	if (s->context < 2) return kf_fail(err, KF_EUNSUPPORTED, "%s: a context of %d token leaves no room for a prompt and an answer", path, s->context);
	return kf_weights_tokenizer(s->weights, &s->tokenizer, err);
}

const char *kf_subject_template(const char *name) { return name && strcmp(name, "own") == 0 ? NULL : name; }

kf_status kf_subject_chat(kf_subject *s, const char *name, kf_err *err)
{
	return kf_chat_choose(kf_subject_template(name), s->tokenizer, s->path, &s->chat, err);
}

kf_status kf_subject_start(kf_subject *s, const kf_eval_opts *o, bool resident, kf_err *err)
{
	const kf_model_opts opts = { .resident = resident, .int8 = o->int8 };
	kf_status rc;

	if ((rc = kf_pool_new(o->threads, &s->pool, err)) != KF_OK) return rc;
	if ((rc = kf_exec_new(o->ops ? o->ops : &kf_ops_cpu, s->pool, (kf_compute)o->compute, &s->exec, err)) != KF_OK) return rc;
	return kf_model_new(s->weights, s->exec, &opts, &s->model, err);
}

void kf_subject_close(kf_subject *s)
{
	kf_model_free(s->model);
	kf_exec_free(s->exec);
	kf_pool_free(s->pool);
	kf_chat_free(s->chat);
	kf_tokenizer_free(s->tokenizer);
	kf_weights_close(s->weights);
	memset(s, 0, sizeof *s);
}

/* ---- tokens ---- */

static kf_status no_memory(kf_err *err) { return kf_fail(err, KF_ENOMEM, "out of memory for the tokens of a task"); }

/* What goes before a text's tokens: BOS; or, where there would be nothing at all, EOS; -1: nothing. */
static kf_status first_token(const kf_subject *s, bool no_bos, bool empty, int32_t *out, kf_err *err)
{
	*out = no_bos ? -1 : kf_tokenizer_bos(s->tokenizer);
	if (*out < 0 && empty) *out = kf_tokenizer_eos(s->tokenizer);
	if (*out < 0 && empty)
		return kf_fail(err, KF_EUNSUPPORTED, "%s has neither BOS nor EOS to begin with, so it cannot be given an empty prompt", s->path);
	return KF_OK;
}

/* first, if there is one, and tokens [from, from + n). */
static kf_status join(int32_t first, const int32_t *ids, int n, kf_arena *arena, int32_t **out, int *total, kf_err *err)
{
	int lead = first >= 0;

	if (!(*out = KF_ARENA_NEW(arena, int32_t, (size_t)n + 1))) return no_memory(err);
	(*out)[0] = first;
	if (n) memcpy(*out + lead, ids, (size_t)n * sizeof **out);
	*total = n + lead;
	return KF_OK;
}

static kf_status encode(const kf_subject *s, const char *text, size_t n, kf_arena *arena, kf_encoding *out, kf_err *err)
{
	if (n > INT32_MAX / 4) return kf_fail(err, KF_EDATA, "a prompt of %zu bytes is too long", n);
	return kf_tokenizer_encode(s->tokenizer, (const uint8_t *)text, n, false, arena, out, err);
}

/* A user's message and a reply. */
static kf_status encode_chat(const kf_subject *s, const char *prompt, const char *reply, kf_arena *arena, kf_encoding *out, kf_err *err)
{
	size_t n, m;

	prompt = kf_trimmed(prompt, &n);
	reply = kf_trimmed(reply, &m);
	const kf_turn turns[] = { { (uint32_t)n, KF_USER }, { (uint32_t)m, KF_ASSISTANT } };
	char *text = n + m < INT32_MAX / 4 ? kf_arena_alloc(arena, n + m + 1, 1) : NULL;

	if (!text) return no_memory(err);
	memcpy(text, prompt, n);
	memcpy(text + n, reply, m);
	text[n + m] = 0;
	return kf_chat_encode(s->chat, turns, 2, (const uint8_t *)text, arena, out, err);
}

static kf_status chat_prompt(const kf_subject *s, const char *prompt, kf_arena *arena, kf_encoding *enc, int *n, int32_t *end, kf_err *err)
{
	size_t bytes;

	prompt = kf_trimmed(prompt, &bytes);
	if (bytes >= INT32_MAX / 4) return kf_fail(err, KF_EDATA, "a prompt of %zu bytes is too long", bytes);
	const kf_turn user = { (uint32_t)bytes, KF_USER };

	return kf_chat_prompt(s->chat, &user, 1, (const uint8_t *)prompt, arena, enc, n, end, err);
}

kf_status kf_subject_prompt(const kf_subject *s, bool chat, const char *prompt, int most, kf_arena *arena, int32_t **out, int *n,
	int32_t *end, bool *cut, kf_err *err)
{
	kf_encoding enc;
	int32_t first;
	int all, from = 0;
	kf_status rc;

	*end = -1;
	if (chat) {
		rc = chat_prompt(s, prompt, arena, &enc, &all, end, err);
	} else if ((rc = encode(s, prompt, strlen(prompt), arena, &enc, err)) == KF_OK) {
		all = (int)enc.n;
		enc.no_bos = false;
	}
	if (rc != KF_OK || (rc = first_token(s, enc.no_bos, all == 0, &first, err)) != KF_OK) return rc;
	if (all + (first >= 0) > most) from = all + (first >= 0) - most;
	*cut = from > 0;
	return join(first, enc.ids + from, all - from, arena, out, n, err);
}

kf_status kf_subject_pair(const kf_subject *s, bool chat, const char *prompt, const char *delimiter, const char *text,
	kf_arena *arena, int32_t **out, int *n, int *from, bool *cut, kf_err *err)
{
	size_t a = strlen(prompt), d = strlen(delimiter), t = strlen(text);
	kf_encoding enc, head;
	uint32_t begin, end, lost = 0;
	int32_t first;
	char *whole;
	kf_status rc;

	if (chat) {
		if ((rc = encode_chat(s, prompt, text, arena, &enc, err)) != KF_OK) return rc;
		for (begin = 0; begin < enc.n && enc.context[begin];) begin++;
		for (end = begin; end < enc.n && !enc.context[end] && !kf_ends_turn(enc.context, enc.start, enc.n, end);) end++;
	} else {
		if (!(whole = kf_arena_alloc(arena, a + d + t + 1, 1))) return no_memory(err);
		memcpy(whole, prompt, a);
		memcpy(whole + a, delimiter, d);
		memcpy(whole + a + d, text, t + 1);
		while (a > 0 && kf_is_space(whole[a - 1])) a--;
		if ((rc = encode(s, whole, strlen(whole), arena, &enc, err)) != KF_OK ||
		    (rc = encode(s, whole, a, arena, &head, err)) != KF_OK)
			return rc;
		begin = head.n;
		end = enc.n;
		enc.no_bos = false;
	}
	if (begin >= end && end > 0) begin = end - 1;   /* the continuation melted into the prompt's last token */
	if (begin >= end) return kf_fail(err, KF_EDATA, "a continuation has no tokens");
	if ((rc = first_token(s, enc.no_bos, begin == 0, &first, err)) != KF_OK) return rc;
	/* Of what does not fit, the end is kept; but not less than one token before the continuation. */
	if ((int64_t)end + (first >= 0) - 1 > s->context) lost = (uint32_t)((int64_t)end + (first >= 0) - 1 - s->context);
	if (lost > begin || (lost == begin && first < 0))
		return kf_fail(err, KF_EDATA, "a continuation of %u tokens does not fit the context of %d", end - begin, s->context);
	*cut = lost > 0;
	*from = (int)(begin - lost) + (first >= 0);
	return join(first, enc.ids + lost, (int)(end - lost), arena, out, n, err);
}
