/* Models run over tasks. */
#include "eval/tasks_impl.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/failure.h"
#include "common/base/file.h"
#include "common/base/progress.h"
#include "common/model/decode.h"
#include "eval/scores.h"

enum { CHUNK = 256 };          /* items whose tokens are held at once */

typedef struct kf_tasks_job {
	const kf_tasks_opts *o;
	kf_tasks_result *r;
	int m;                     /* model at work */
	bool chat;
	kf_subject s;
	kf_sandbox *sandbox;       /* NULL: no code among the tasks */
	kf_outfile out;            /* out.f NULL: not wanted */
	kf_progress progress;
	kf_arena arena;
} runner;

static const char *model_name(const runner *x) { return x->o->e->model[x->m].name; }

static kf_status blame(const kf_eval_task *t, int i, kf_status rc, kf_err *err)
{
	return kf_context(err, rc, "%s, item %d (%s %d)", t->file, i + 1, t->unit, t->item[i].line);
}

static void ran(void *arg, size_t tokens)
{
	runner *x = arg;

	kf_progress_add(&x->progress, (double)tokens);
}

static kf_status generated(void *arg, size_t tokens, size_t ended, kf_err *err)
{
	(void)ended;
	(void)err;
	ran(arg, tokens);
	return KF_OK;
}

/* ---- what was answered, for people to look at ---- */

static kf_status write_output(runner *x, const kf_eval_task *t, const kf_task_item *item, json_t *o, kf_err *err)
{
	char *line;
	bool ok;

	if (!o) return kf_fail(err, KF_ENOMEM, "out of memory for the outputs");
	json_object_set_new(o, "task", json_string(t->name));
	json_object_set_new(o, "model", json_string(model_name(x)));
	json_object_set_new(o, "line", json_integer(item->line));
	if (*item->id) json_object_set_new(o, "id", json_string(item->id));
	line = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9));
	ok = line && fprintf(x->out.f, "%s\n", line) > 0;
	free(line);
	json_decref(o);
	return ok ? KF_OK : kf_fail_errno(err, "cannot write %s", x->o->outputs);
}

static kf_status write_endings(runner *x, const kf_eval_task *t, const kf_task_item *item, const kf_ending *e, kf_err *err)
{
	json_t *o, *list;

	if (!x->out.f) return KF_OK;
	o = json_object();
	list = json_array();
	for (int k = 0; k < item->n_options; k++) json_array_append_new(list, json_real(-e[k].nats));
	json_object_set_new(o, "logprobs", list);
	if (t->kind == KF_TASK_WORD) json_object_set_new(o, "first_choice", json_boolean(e[0].first_choice));
	return write_output(x, t, item, o, err);
}

static kf_status write_generation(runner *x, const kf_eval_task *t, const kf_task_item *item, const kf_decoding *g, const char *verdict,
	kf_err *err)
{
	static const char *const ended[] = { "stop", "token", "length" };
	json_t *o;

	if (!x->out.f) return KF_OK;
	o = json_object();
	json_object_set_new(o, "text", json_stringn(g->text.len ? (const char *)g->text.data : "", g->text.len));
	json_object_set_new(o, "tokens", json_integer(g->tokens));
	json_object_set_new(o, "ended", json_string(ended[g->ended]));
	json_object_set_new(o, "verdict", json_string(verdict));
	return write_output(x, t, item, o, err);
}

/* ---- likelihoods ---- */

static kf_status prompt_of(runner *x, const kf_eval_task *t, int i, kf_buf *prompt, kf_err *err)
{
	kf_buf_clear(prompt);
	kf_task_prompt(t, i, x->o->shots, prompt);
	kf_buf_u8(prompt, 0);
	return kf_buf_check(prompt, err);
}

/* Counted items [from, to). */
static kf_status score_items(runner *x, kf_task_result *r, int from, int to, kf_err *err)
{
	const kf_eval_task *t = r->task;
	const int model = x->m;
	kf_buf prompt = { 0 };
	size_t n = 0, at = 0;
	kf_ending *e;
	kf_status rc = KF_OK;

	for (int i = from; i < to; i++) n += (size_t)t->item[r->first + i].n_options;
	if (!(e = KF_ARENA_NEW(&x->arena, kf_ending, n))) return kf_fail(err, KF_ENOMEM, "out of memory for %zu continuations", n);
	for (int i = from; i < to && rc == KF_OK; i++) {
		const int item = r->first + i;
		bool any = false;

		rc = prompt_of(x, t, item, &prompt, err);
		for (int k = 0; k < t->item[item].n_options && rc == KF_OK; k++, at++) {
			int32_t *ids;
			bool cut = false;

			e[at] = (kf_ending){ .group = i };
			rc = kf_subject_pair(&x->s, x->chat, (const char *)prompt.data, t->delimiter, t->item[item].option[k], &x->arena, &ids, &e[at].n,
				&e[at].from, &cut, err);
			e[at].token = ids;
			any = any || cut;
		}
		r->cut[model] += any;
		rc = blame(t, item, rc, err);
	}
	if (rc == KF_OK) rc = kf_endings_score(x->s.model, (int)x->o->e->batch_tokens, e, n, ran, x, err);
	at = 0;
	for (int i = from; i < to && rc == KF_OK; i++) {
		const kf_task_item *item = &t->item[r->first + i];

		if (t->kind == KF_TASK_CHOICE) kf_task_count_choice(r, model, i, e + at, x->chat);
		else kf_task_count_word(r, model, i, e + at);
		rc = write_endings(x, t, item, e + at, err);
		at += (size_t)item->n_options;
	}
	kf_buf_release(&prompt);
	return rc;
}

static kf_status run_endings(runner *x, kf_task_result *r, kf_err *err)
{
	kf_status rc = KF_OK;

	for (int i = 0; i < r->n && rc == KF_OK; i += CHUNK) {
		kf_arena_reset(&x->arena);
		rc = score_items(x, r, i, i + CHUNK < r->n ? i + CHUNK : r->n, err);
	}
	return rc;
}

/* ---- generation ---- */

int kf_task_most(const kf_tasks_opts *o, const kf_eval_task *t, int context)
{
	const int most = o->max_tokens ? o->max_tokens : t->max_tokens;

	if (most <= context / 2) return most;
	return context / 2 > 0 ? context / 2 : 1;
}

static kf_status prepare(runner *x, kf_task_result *r, int samples, kf_decoding *g, kf_err *err)
{
	const kf_eval_task *t = r->task;
	const int most = kf_task_most(x->o, t, x->s.context);
	kf_buf prompt = { 0 };
	kf_status rc = KF_OK;

	for (int i = 0; i < r->n && rc == KF_OK; i++) {
		kf_decoding one = { .most = most, .stop = t->stop, .n_stop = t->n_stop };
		int32_t *ids;
		bool cut = false;

		if ((rc = prompt_of(x, t, r->first + i, &prompt, err)) == KF_OK)
			rc = kf_subject_prompt(&x->s, x->chat, (const char *)prompt.data, x->s.context - most, &x->arena, &ids, &one.n, &one.end, &cut, err);
		if ((rc = blame(t, r->first + i, rc, err)) != KF_OK) break;
		one.prompt = ids;
		r->cut[x->m] += cut;
		/* Of a reply the stop strings would end what comes before the answer: only its own end does. */
		if (x->chat) one.n_stop = 0;
		for (int k = 0; k < samples; k++) {
			g[i * samples + k] = one;
			g[i * samples + k].stream = (uint64_t)(r->first + i) * 1000003u + (uint64_t)k;
		}
	}
	kf_buf_release(&prompt);
	return rc;
}

typedef struct {
	runner *x;
	const kf_task_result *r;
	const kf_decoding *g;
	int samples;
	kf_verdict *verdict;       /* (items, samples) */
	kf_failure failure;
} programs;

static void run_program(void *arg, size_t i, int worker)
{
	programs *j = arg;
	const kf_task_item *item = &j->r->task->item[j->r->first + (int)i / j->samples];
	kf_buf text = { 0 };
	kf_err err;
	kf_status rc;

	(void)worker;
	kf_task_program(item, j->g[i].text.len ? (const char *)j->g[i].text.data : "", j->g[i].text.len, j->x->chat, &text);
	if ((rc = kf_buf_check(&text, &err)) == KF_OK)
		rc = kf_sandbox_run(j->x->sandbox, (const char *)text.data, text.len, &j->verdict[i], &err);
	if (rc != KF_OK) kf_failure_note(&j->failure, (int)i, rc, &err);
	kf_buf_release(&text);
}

static kf_status judge_code(runner *x, kf_task_result *r, int samples, const kf_decoding *g, kf_err *err)
{
	size_t n = (size_t)r->n * (size_t)samples;
	programs j = { .x = x, .r = r, .g = g, .samples = samples, .failure = KF_FAILURE };
	kf_status rc;

	if (!(j.verdict = kf_zalloc(n, sizeof *j.verdict))) return kf_fail(err, KF_ENOMEM, "out of memory for %zu verdicts", n);
	kf_progress_note(&x->progress, "%s: running programs", model_name(x));
	kf_pool_run(x->s.pool, n, run_program, &j);
	if ((rc = j.failure.rc) != KF_OK && err) *err = j.failure.err;
	for (int i = 0; i < r->n && rc == KF_OK; i++) {
		int passed = 0;

		for (int k = 0; k < samples && rc == KF_OK; k++) {
			int at = i * samples + k;

			passed += j.verdict[at] == KF_VERDICT_PASSED;
			rc = write_generation(x, r->task, &r->task->item[r->first + i], &g[at], kf_verdict_name(j.verdict[at]), err);
		}
		kf_task_count_code(r, x->m, i, samples, passed);
	}
	kf_free(j.verdict);
	return rc;
}

static kf_status judge_matches(runner *x, kf_task_result *r, const kf_decoding *g, kf_err *err)
{
	kf_status rc = KF_OK;

	for (int i = 0; i < r->n && rc == KF_OK; i++) {
		const kf_task_item *item = &r->task->item[r->first + i];
		bool same = false;

		rc = kf_task_matches(r->task, item, g[i].text.len ? (const char *)g[i].text.data : "", g[i].text.len, &same, err);
		if (rc == KF_OK) rc = write_generation(x, r->task, item, &g[i], same ? "right" : "wrong", err);
		r->metric[0].value[x->m][i] = same;
	}
	return rc;
}

static kf_status as_text(kf_decoding *g, size_t n, kf_err *err)
{
	kf_status rc = KF_OK;

	for (size_t i = 0; i < n && rc == KF_OK; i++) {
		kf_buf text = { 0 };

		kf_task_text(g[i].text.data, g[i].text.len, &text);
		rc = kf_buf_check(&text, err);
		kf_buf_release(&g[i].text);
		g[i].text = text;
	}
	return rc;
}

static kf_status run_generation(runner *x, kf_task_result *r, kf_err *err)
{
	const int samples = r->task->kind == KF_TASK_CODE ? x->o->samples : 1;
	kf_decode_opts opts = { .temperature = x->o->temperature, .top_p = x->o->top_p, .seed = x->o->e->seed,
		.batch_tokens = (int)x->o->e->batch_tokens, .cache_bytes = x->o->cache_bytes };
	size_t n = (size_t)r->n * (size_t)samples;
	kf_decoding *g = n <= 10000000 ? kf_zalloc(n, sizeof *g) : NULL;
	kf_status rc;

	if (!g) return kf_fail(err, KF_ENOMEM, "out of memory for %zu texts", n);
	kf_arena_reset(&x->arena);
	if ((rc = kf_decode_ends(x->s.weights, x->s.tokenizer, &x->arena, &opts.end, &opts.n_end, err)) != KF_OK || (rc = prepare(x, r, samples, g, err)) != KF_OK ||
	    (rc = kf_decode(x->s.model, x->s.tokenizer, &opts, g, n, generated, x, err)) != KF_OK ||
	    (rc = as_text(g, n, err)) != KF_OK)
		goto out;
	rc = r->task->kind == KF_TASK_CODE ? judge_code(x, r, samples, g, err) : judge_matches(x, r, g, err);
out:
	for (size_t i = 0; i < n; i++) kf_buf_release(&g[i].text);
	kf_free(g);
	return rc;
}

/* ---- a model, all models ---- */

static kf_status open_model(runner *x, kf_err *err)
{
	const kf_eval_model *m = &x->o->e->model[x->m];
	kf_status rc;

	if ((rc = kf_subject_open(&x->s, m->run, err)) != KF_OK) return rc;
	x->chat = m->chat_template && !x->o->plain;
	return x->chat ? kf_subject_chat(&x->s, m->chat_template, err) : KF_OK;
}

/* What the model's scores of every task depend on (of, (tasks); NULL where none are kept), and those that are known already. What it answered is not
 * kept, so where that is wanted it is asked all. */
static kf_status take_scores(runner *x, json_t **of, bool *taken, kf_err *err)
{
	const char *dir = x->o->e->scores;
	json_t *model = NULL;
	kf_status rc;

	if (!dir) return KF_OK;
	rc = kf_scores_of(x->o->e, &x->s, x->r->chat[x->m], &model, err);
	for (int i = 0; i < x->r->n && rc == KF_OK; i++) {
		kf_task_result *r = &x->r->task[i];

		if (!(of[i] = json_copy(model))) rc = kf_fail(err, KF_ENOMEM, "out of memory for a task's scores");
		else if ((rc = kf_task_of(x->o, r, &x->s, x->r->sandbox, of[i], err)) != KF_OK) break;
		taken[i] = rc == KF_OK && !x->out.f && kf_task_take(r, x->m, dir, of[i]);
		x->r->asked++;
		x->r->taken += taken[i];
	}
	json_decref(model);
	return rc;
}

static kf_status ask(runner *x, json_t **of, const bool *taken, kf_err *err)
{
	bool any = false, generates = false;
	kf_status rc;

	for (int i = 0; i < x->r->n; i++) {
		any = any || !taken[i];
		generates = generates || (!taken[i] && kf_task_generates(x->r->task[i].task));
	}
	if (!any) return KF_OK;
	if ((rc = kf_subject_start(&x->s, x->o->e, generates && kf_decode_resident(x->s.weights), err)) != KF_OK) return rc;
	for (int i = 0; i < x->r->n && rc == KF_OK; i++) {
		kf_task_result *r = &x->r->task[i];

		if (taken[i]) continue;
		kf_progress_note(&x->progress, "%s: %s", model_name(x), r->task->name);
		rc = kf_task_generates(r->task) ? run_generation(x, r, err) : run_endings(x, r, err);
		rc = kf_context(err, rc, "%s", x->o->e->model[x->m].run);
		if (rc == KF_OK && of[i]) rc = kf_task_keep(r, x->m, x->o->e->scores, of[i], err);
	}
	return rc;
}

static kf_status run_model(runner *x, kf_err *err)
{
	json_t **of = kf_zalloc((size_t)x->r->n, sizeof *of);
	bool *taken = kf_zalloc((size_t)x->r->n, sizeof *taken);
	kf_status rc = of && taken ? open_model(x, err) : kf_fail(err, KF_ENOMEM, "out of memory for tasks");

	if (rc == KF_OK && (rc = take_scores(x, of, taken, err)) == KF_OK) rc = ask(x, of, taken, err);
	for (int i = 0; of && i < x->r->n; i++) json_decref(of[i]);
	kf_free(of);
	kf_free(taken);
	return rc;
}

static kf_status prepare_tasks(const kf_tasks_opts *o, kf_tasks_result *r, bool *code, kf_err *err)
{
	kf_status rc;

	if (!(r->task = kf_zalloc((size_t)o->tasks->n, sizeof *r->task))) return kf_fail(err, KF_ENOMEM, "out of memory for tasks");
	for (int i = 0; i < o->tasks->n; i++) {
		const kf_eval_task *t = &o->tasks->task[i];

		if (o->shots >= t->n)
			return kf_fail(err, KF_EINVAL, "%s: the task \"%s\" has %d items: with %d shown none is left to be asked", t->file, t->name,
				t->n, o->shots);
		for (int s = 0; s < o->shots; s++)
			if (!t->item[s].solution && !t->item[s].n_options)
				return kf_fail(err, KF_EINVAL, "%s, %s %d: the item has no canonical_solution, so --shots %d cannot show it solved", t->file, t->unit,
					t->item[s].line, o->shots);
		*code = *code || t->kind == KF_TASK_CODE;
		r->task[r->n] = (kf_task_result){ .task = t, .first = o->shots, .n = t->n - o->shots };
		if (o->limit && r->task[r->n].n > o->limit) r->task[r->n].n = o->limit;
		if ((rc = kf_task_metrics(o, &r->task[r->n++], err)) != KF_OK) return rc;
	}
	return KF_OK;
}

/* Logits under a model's name are that model's: of its weights; where somebody else computed them, which a set does not know, of its tokenizer. */
static kf_status check_logits(const runner *x, kf_err *err)
{
	const kf_eval_model *m = &x->o->e->model[x->m];
	kf_fp theirs, own = { 0, 0 };
	kf_tokenizer *tokenizer = NULL;
	kf_set *set = NULL;
	const void *data;
	size_t n;
	kf_status rc;

	if ((rc = kf_set_open(m->path, KF_SET_LOGITS, &set, err)) != KF_OK) return rc;
	rc = kf_set_input_fp(set, "model", &theirs, err);
	if (rc == KF_OK) {
		rc = kf_weights_fp(x->s.weights, &own, err);
	} else if (rc == KF_ENOTFOUND && (rc = kf_set_tokenizer(set, &data, &n, err)) == KF_OK) {
		if ((rc = kf_tokenizer_load(data, n, &tokenizer, err)) != KF_OK) rc = kf_context(err, rc, "%s: its tokenizer", m->path);
		else if ((rc = kf_tokenizer_text_fp(tokenizer, &theirs, err)) == KF_OK) rc = kf_tokenizer_text_fp(x->s.tokenizer, &own, err);
	}
	if (rc == KF_OK && !kf_fp_equal(theirs, own))
		rc = kf_fail(err, KF_EMISMATCH, "%s has logits of another model than %s, and both are called \"%s\": give each a name of its own, NAME=PATH",
			m->path, m->run, m->name);
	kf_tokenizer_free(tokenizer);
	kf_set_close(set);
	return rc;
}

kf_status kf_tasks_ready(const kf_tasks_opts *o, kf_tasks_result *r, kf_tasks_job **job, kf_err *err)
{
	runner *x = *job = kf_zalloc(1, sizeof *x);
	bool code = false;
	kf_status rc;

	*r = (kf_tasks_result){ .o = o };
	if (!x) return kf_fail(err, KF_ENOMEM, "out of memory for tasks");
	x->o = o;
	x->r = r;
	kf_arena_init(&x->arena);
	if ((rc = prepare_tasks(o, r, &code, err)) != KF_OK) return rc;
	if (code && (rc = kf_sandbox_new(&o->sandbox, &x->sandbox, err)) != KF_OK) return rc;
	if (code) snprintf(r->sandbox, sizeof r->sandbox, "%s", kf_sandbox_describe(x->sandbox));
	for (x->m = 0; x->m < o->e->n_models; x->m++) {
		if (!o->e->model[x->m].run) continue;
		if ((rc = open_model(x, err)) == KF_OK && o->e->model[x->m].kind == KF_EVAL_LOGITS) rc = check_logits(x, err);
		if (x->s.chat) r->chat[x->m] = kf_chat_name(x->s.chat);
		kf_subject_close(&x->s);
		if (rc != KF_OK) return rc;
	}
	return o->outputs ? kf_outfile_open(&x->out, o->outputs, err) : KF_OK;
}

kf_status kf_tasks_run(kf_tasks_job *x, kf_err *err)
{
	kf_tasks_result *r = x->r;
	kf_status rc = KF_OK;

	kf_progress_start(&x->progress, "tasks", "tokens", 0, x->o->e->progress);
	for (x->m = 0; x->m < x->o->e->n_models; x->m++) {
		if (!x->o->e->model[x->m].run) continue;
		rc = run_model(x, err);
		kf_subject_close(&x->s);
		if (rc != KF_OK) return rc;
	}
	kf_progress_end(&x->progress);
	if (x->out.f && (rc = kf_outfile_commit(&x->out, err)) != KF_OK) return rc;
	for (int i = 0; i < r->n && rc == KF_OK; i++) rc = kf_task_figures(x->o->e, &r->task[i], err);
	return rc;
}

void kf_tasks_end(kf_tasks_job *x)
{
	if (!x) return;
	kf_outfile_abandon(&x->out);
	kf_subject_close(&x->s);
	kf_sandbox_free(x->sandbox);
	kf_arena_release(&x->arena);
	kf_free(x);
}

void kf_tasks_result_release(kf_tasks_result *r)
{
	for (int i = 0; i < r->n; i++)
		for (int k = 0; k < r->task[i].n_metrics; k++) {
			kf_free(r->task[i].metric[k].weight);
			for (int m = 0; m < KF_EVAL_MODELS; m++) kf_free(r->task[i].metric[k].value[m]);
		}
	kf_free(r->task);
	memset(r, 0, sizeof *r);
}
