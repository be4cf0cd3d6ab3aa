/* Tasks' scores that are kept (scores.h). */
#include "eval/tasks_impl.h"

#include <string.h>

#include "common/model/decode.h"
#include "eval/scores.h"

static kf_status no_memory(kf_err *err) { return kf_fail(err, KF_ENOMEM, "out of memory for a task's scores"); }

static void put_text(kf_buf *b, const char *text)
{
	kf_buf_u8(b, text != NULL);
	if (text) kf_buf_str(b, text);
}

static void put_item(kf_buf *b, const kf_task_item *item)
{
	put_text(b, item->prompt);
	put_text(b, item->solution);
	put_text(b, item->test);
	put_text(b, item->entry);
	kf_buf_varint(b, (uint64_t)item->n_options);
	kf_buf_varint(b, (uint64_t)item->best);
	for (int k = 0; k < item->n_options; k++) {
		const double worth = item->score ? item->score[k] : 0;

		put_text(b, item->option[k]);
		kf_buf_put(b, &worth, sizeof worth);
	}
}

/* What of a task decides about scores: neither its name nor where it stands, nor items that are not asked. */
static kf_status task_fp(const kf_task_result *r, kf_fp *out, kf_err *err)
{
	const kf_eval_task *t = r->task;
	kf_hasher *h = kf_hasher_new();
	kf_buf b = { 0 };
	kf_status rc;

	if (!h) return no_memory(err);
	kf_buf_varint(&b, (uint64_t)t->kind);
	kf_buf_varint(&b, (uint64_t)t->normalize);
	put_text(&b, t->prefix);
	put_text(&b, t->delimiter);
	put_text(&b, t->separator);
	kf_buf_varint(&b, (uint64_t)t->n_stop);
	for (int i = 0; i < t->n_stop; i++) put_text(&b, t->stop[i]);
	rc = kf_buf_check(&b, err);
	for (int i = -1; i < r->first + r->n && rc == KF_OK; i++) {
		if (i >= 0) {
			kf_buf_clear(&b);
			put_item(&b, &t->item[i]);
			rc = kf_buf_check(&b, err);
		}
		kf_hasher_add(h, b.data, b.len);
	}
	*out = kf_hasher_fp(h);
	kf_hasher_free(h);
	kf_buf_release(&b);
	return rc;
}

/* How text is generated; most: tokens at most. */
static json_t *generation_of(const kf_tasks_opts *o, int most, const int32_t *end, int n_end)
{
	json_t *how = json_pack("{s:i, s:f}", "max_tokens", most, "temperature", o->temperature), *ends = json_array();
	bool ok = how && ends;

	for (int i = 0; i < n_end; i++) ok = ok && json_array_append_new(ends, json_integer(end[i])) == 0;
	ok = ok && json_object_set(how, "ends", ends) == 0;
	/* greedily nothing is drawn */
	if (o->temperature > 0)
		ok = ok && json_object_set_new(how, "top_p", json_real(o->top_p)) == 0 && json_object_set_new(how, "seed", json_integer((json_int_t)o->e->seed)) == 0;
	json_decref(ends);
	if (ok) return how;
	json_decref(how);
	return NULL;
}

kf_status kf_task_of(const kf_tasks_opts *o, const kf_task_result *r, const kf_subject *s, const char *sandbox, json_t *of, kf_err *err)
{
	const kf_eval_task *t = r->task;
	const int32_t *end = NULL;
	int n_end = 0;
	kf_arena arena;
	kf_fp fp;
	kf_status rc = task_fp(r, &fp, err);

	if (rc == KF_OK) rc = kf_scores_add_fp(of, "task", fp, err);
	if (rc == KF_OK && json_object_set_new(of, "shots", json_integer(r->first)) != 0) rc = no_memory(err);
	if (rc != KF_OK || !kf_task_generates(t)) return rc;
	kf_arena_init(&arena);
	if ((rc = kf_decode_ends(s->weights, s->tokenizer, &arena, &end, &n_end, err)) == KF_OK &&
	    json_object_set_new(of, "generation", generation_of(o, kf_task_most(o, t, s->context), end, n_end)) != 0)
		rc = no_memory(err);
	kf_arena_release(&arena);
	if (rc != KF_OK || t->kind != KF_TASK_CODE) return rc;
	return json_object_set_new(of, "programs", json_pack("{s:i, s:f, s:I, s:s}", "samples", o->samples, "seconds", o->sandbox.seconds, "memory",
		(json_int_t)o->sandbox.memory, "sandbox", sandbox)) == 0 ? KF_OK : no_memory(err);
}

/* ---- scores ---- */

bool kf_task_take(kf_task_result *r, int model, const char *dir, const json_t *of)
{
	json_t *scores = kf_scores_find(dir, of);
	const json_t *cut = json_object_get(scores, "cut");
	bool ok = json_is_integer(cut) && json_integer_value(cut) >= 0 && json_integer_value(cut) <= r->n;

	for (int k = 0; k < r->n_metrics && ok; k++) ok = kf_scores_take(scores, r->metric[k].name, r->metric[k].value[model], (size_t)r->n);
	if (ok) r->cut[model] = (int)json_integer_value(cut);
	json_decref(scores);
	return ok;
}

kf_status kf_task_keep(const kf_task_result *r, int model, const char *dir, const json_t *of, kf_err *err)
{
	json_t *scores = json_pack("{s:i}", "cut", r->cut[model]);
	bool ok = scores != NULL;
	kf_status rc;

	for (int k = 0; k < r->n_metrics && ok; k++) ok = kf_scores_put(scores, r->metric[k].name, r->metric[k].value[model], (size_t)r->n);
	rc = ok ? kf_scores_keep(dir, of, scores, err) : no_memory(err);
	json_decref(scores);
	return rc;
}
