#include "train/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/opt.h"
#include "common/base/progress.h"
#include "common/base/record.h"
#include "common/base/stop.h"
#include "common/text/chat.h"
#include "train/checkpoint.h"
#include "train/data.h"
#include "train/exchange.h"
#include "train/loader.h"
#include "train/log.h"
#include "train/optim.h"
#include "train/output.h"
#include "train/valid.h"

enum { NAMED = 8 };            /* documents in a message */

typedef struct {
	const kf_train_opts *o;
	kf_exec *x;
	kf_ranks *ranks;           /* NULL: one process */
	bool first;                /* rank 0, which alone writes the log and the model */
	kf_weights *weights;
	kf_tokenizer *tokenizer;
	kf_set *set;
	kf_docs *docs;
	kf_valid valid;
	kf_model *model;
	kf_optim optim;
	kf_pack pack;
	kf_loader loader;
	kf_plan plan;
	kf_progress bar;
	json_t *identity;
	kf_train_log log;          /* open where this process writes it */
	kf_lock lock;              /* on OUT/state */
	char state[KF_PATH_MAX];
	kf_dtype dtype;

	int64_t total;             /* steps of the whole run */
	/* What a checkpoint holds besides the optimizer's. */
	int64_t step, tokens;      /* done */
	int64_t at;                /* the step at work, or, between two, the one before */
	bool told;                 /* the error says which step it was */
	int64_t ended;             /* the last epoch whose end is done: validation, and what is kept of it */
	int best_epoch;            /* 0: none yet */
	double best_valid, before, loss;   /* before: of the validation text, by the model as it came */
	int64_t saved;             /* step of the last checkpoint; 0: none */
	int named[2];              /* the best epochs of the last two checkpoints; their models stay as long as these do */
	kf_load seen;              /* of the step at work: its documents, of which the first are named */
	uint64_t names[NAMED];
} trainer;

/* ---- what makes the run what it is -------------------------------------------------- */

static int add_fp(json_t *o, const char *key, kf_fp fp)
{
	char hex[KF_FP_HEX];

	kf_fp_hex(fp, hex);
	return json_object_set_new(o, key, json_string(hex));
}

static kf_status make_identity(trainer *t, kf_err *err)
{
	json_t *inputs = json_object();
	kf_status rc;
	kf_fp fp;

	if ((rc = kf_weights_fp(t->weights, &fp, err)) != KF_OK) {
		json_decref(inputs);
		return rc;
	}
	if (add_fp(inputs, "model", fp) != 0 || add_fp(inputs, "tokenizer", kf_tokenizer_fp(t->tokenizer)) != 0 ||
	    add_fp(inputs, "targets", kf_set_fp(t->set)) != 0 ||
	    (t->o->valid && add_fp(inputs, "valid", t->valid.fp) != 0)) {
		json_decref(inputs);
		return kf_fail(err, KF_ENOMEM, "no memory for the run's identity");
	}
	t->identity = json_pack("{s:s, s:s, s:O, s:o}", "program", "kf-train", "version", KF_VERSION, "options",
		t->o->record, "inputs", inputs);
	return t->identity ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for the run's identity");
}

/* Processes on other machines may have found other files under the same names. */
static kf_status check_identity(trainer *t, kf_err *err)
{
	char *text;
	kf_fp fp, other;
	kf_status rc;

	if (!t->ranks)
		return KF_OK;
	text = kf_record_canonical(t->identity);
	fp = other = kf_fp_of(text ? text : "", text ? strlen(text) : 0);
	rc = text ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for the run's identity");
	free(text);
	if ((rc = kf_ranks_agree(t->ranks, rc, err)) != KF_OK ||
	    (rc = kf_ranks_broadcast(t->ranks, 0, &other, sizeof other, err)) != KF_OK)
		return rc;
	if (!kf_fp_equal(fp, other))
		rc = kf_fail(err, KF_EMISMATCH, "finds another model, targets or validation text under these names, or has other options, than "
			"process 0. All machines must see the same files.");
	return kf_ranks_agree(t->ranks, rc, err);
}

/* Write a record to the log, which is released. Not collective: what comes of it has to be agreed on. */
static kf_status log_record(trainer *t, json_t *r, kf_err *err)
{
	const kf_status rc = t->first ? kf_train_log_put(&t->log, r, err) : KF_OK;

	json_decref(r);
	return rc;
}

/* ---- checkpoints -------------------------------------------------------------------------- */

static kf_status save(trainer *t, kf_err *err)
{
	json_t *state;
	kf_status rc;

	if ((rc = kf_exchange_settle(&t->optim, err)) != KF_OK)
		return rc;
	if (t->first)
		rc = kf_train_log_sync(&t->log, err);
	state = json_pack("{s:O, s:I, s:I, s:I, s:o, s:i, s:o, s:o, s:I, s:s}", "identity", t->identity, "step", (json_int_t)t->step,
		"tokens", (json_int_t)t->tokens, "ended", (json_int_t)t->ended, "valid_before", kf_record_number(t->before), "best_epoch", t->best_epoch, "best_valid", kf_record_number(t->best_valid),
		"loss", kf_record_number(t->loss), "log_bytes", (json_int_t)t->log.bytes, "log", t->log.name);
	if (rc == KF_OK && !state)
		rc = kf_fail(err, KF_ENOMEM, "no memory for a checkpoint's state");
	if ((rc = kf_ranks_agree(t->ranks, rc, err)) == KF_OK)
		rc = kf_checkpoint_write(t->state, t->step, state, &t->optim, err);
	json_decref(state);
	if (rc != KF_OK)
		return rc;
	if (t->step != t->saved)
		t->named[0] = t->named[1];
	t->named[1] = t->best_epoch;
	t->saved = t->step;
	if (t->first)
		rc = kf_output_keep_best(t->state, t->named, 2, err);
	return kf_ranks_agree(t->ranks, rc, err);
}

static kf_status restore(trainer *t, kf_err *err)
{
	const int64_t steps = kf_plan_steps(t->docs, t->o->batch_tokens);
	json_t *state, *best, *loss, *before = NULL;
	json_int_t step, tokens, log_bytes, ended = -1;
	const char *log = "";
	kf_status rc = kf_checkpoint_read(t->state, &t->optim, &state, err);

	if (rc == KF_ENOTFOUND && !t->o->resume)
		return KF_OK;
	if (rc != KF_OK)
		return rc;
	rc = kf_record_same(t->state, json_object_get(state, "identity"), t->identity, "the checkpoint of another run", "--restart begins anew.", err);
	if (rc == KF_OK && (json_unpack(state, "{s:I, s:I, s?I, s?o, s:i, s:o, s:o, s:I, s?s}", "step", &step, "tokens", &tokens, "ended", &ended, "valid_before", &before, "best_epoch", &t->best_epoch,
	    "best_valid", &best, "loss", &loss, "log_bytes", &log_bytes, "log", &log) != 0 || step < 0 || step > t->total || tokens < 0 ||
	    t->best_epoch < 0 || log_bytes < 0))
		rc = kf_fail(err, KF_EDATA, "the checkpoint in %s is not this run's; --restart begins anew", t->state);
	if (rc == KF_OK) {
		t->step = t->saved = step;
		t->tokens = tokens;
		t->ended = ended < 0 ? (step == t->total ? (step + steps - 1) / steps : step / steps) : ended;
		t->log.bytes = log_bytes;
		snprintf(t->log.was, sizeof t->log.was, "%s", log);
		t->before = json_is_real(before) ? json_real_value(before) : NAN;
		t->best_valid = json_is_real(best) ? json_real_value(best) : NAN;
		t->loss = json_is_real(loss) ? json_real_value(loss) : NAN;
		t->named[0] = t->named[1] = t->best_epoch;
		/* without validation none is written before the end */
		if (t->first && t->o->valid && t->best_epoch && !kf_output_has_best(t->state, t->best_epoch))
			rc = kf_fail(err, KF_EDATA, "%s/best-%d is not there, the model of the best epoch up to the checkpoint of step %lld. --restart begins anew.",
				t->state, t->best_epoch, (long long)step);
	}
	json_decref(state);
	return kf_ranks_agree(t->ranks, rc, err);
}

/* ---- a step --------------------------------------------------------------------------------- */

/* "document 7", "documents 7, 9, 31 and 12 more". */
static void name_docs(const kf_load *l, char *out, size_t size)
{
	const size_t n = l->n_docs < NAMED ? l->n_docs : NAMED;
	int at = snprintf(out, size, l->n_docs == 1 ? "document" : "documents");

	for (size_t i = 0; i < n; i++)
		at += snprintf(out + at, size - (size_t)at, "%s %llu", i ? "," : "", (unsigned long long)l->docs[i]);
	if (l->n_docs > n)
		snprintf(out + at, size - (size_t)at, " and %zu more", l->n_docs - n);
}

/* A failure of a step: which documents were at work (NULL: not said), and what is left of the run. */
static kf_status lost_at(trainer *t, int64_t step, const kf_load *l, kf_status rc, kf_err *err)
{
	const kf_err why = *err;
	char docs[300] = "";

	if (t->told)
		return rc;
	t->told = true;
	if (l)
		name_docs(l, docs, sizeof docs);
	if (t->saved)
		return kf_fail(err, rc, "step %lld%s%s: %.500s%s The checkpoint of step %lld in %.200s stands.", (long long)step,
			l ? ", " : "", docs, why.text, why.text[strlen(why.text) - 1] == '.' ? "" : ".", (long long)t->saved, t->state);
	return kf_fail(err, rc, "step %lld%s%s: %.800s", (long long)step, l ? ", " : "", docs, why.text);
}

/* Of the step at work. */
static kf_status lost(trainer *t, const kf_load *l, kf_status rc, kf_err *err)
{
	return lost_at(t, t->at, l, rc, err);
}

/* Of what comes after a step. (Where a process was lost, train says it.) */
static kf_status lost_after(trainer *t, kf_status rc, kf_err *err)
{
	return rc == KF_OK || rc == KF_ESTOPPED || (t->ranks && t->ranks->lost) ? rc : lost_at(t, t->step, NULL, rc, err);
}

/* *tokens: of this process in this step. */
static kf_status run_micro(trainer *t, kf_load *l, kf_loss *sum, int64_t *tokens, kf_err *err)
{
	kf_loss_query q = l->micro.query;
	kf_loss loss;
	kf_status rc;

	/* first: one without documents is heard, too */
	if ((rc = kf_stop_check(err)) != KF_OK || l->micro.T == 0)
		return rc;
	q.lambda = kf_lambda_at(t->o, t->step + 1, t->total);
	q.temperature = t->o->temperature;
	q.kind = (kf_loss_kind)t->o->loss;
	q.tail = (kf_tail_kind)t->o->tail;
	if ((rc = kf_model_loss(t->model, &l->micro.batch, &q, true, &loss, err)) != KF_OK)
		return lost(t, l, rc, err);
	if (!isfinite(loss.loss))
		return lost(t, l, kf_fail(err, KF_EDATA, "the loss is not finite. A lower --lr may help."), err);
	sum->loss += loss.loss;
	sum->clm += loss.clm;
	sum->fusion += loss.fusion;
	sum->rows += loss.rows;
	sum->clm_rows += loss.clm_rows;
	sum->fusion_rows += loss.fusion_rows;
	*tokens += l->micro.T;
	kf_progress_add(&t->bar, l->micro.T);
	return KF_OK;
}

static void note_docs(trainer *t, const kf_load *l)
{
	for (size_t i = 0; i < l->n_docs; i++, t->seen.n_docs++)
		if (t->seen.n_docs < NAMED)
			t->names[t->seen.n_docs] = l->docs[i];
}

/* This process's documents of the step, their gradients added up. */
static kf_status run_share(trainer *t, kf_loss *sum, int64_t *tokens, kf_err *err)
{
	kf_load *load;
	kf_status rc;

	kf_model_zero_grad(t->model);
	t->seen = (kf_load){ .docs = t->names };
	do {
		if ((rc = kf_loader_next(&t->loader, &load, err)) != KF_OK || (rc = run_micro(t, load, sum, tokens, err)) != KF_OK)
			return rc;
		note_docs(t, load);
	} while (!load->last);
	return KF_OK;
}

/* The sums of all processes. */
static kf_status sum_losses(trainer *t, kf_loss *s, int64_t *tokens, kf_err *err)
{
	double v[] = { s->loss, s->clm, s->fusion, (double)s->rows, (double)s->clm_rows, (double)s->fusion_rows, (double)*tokens };
	kf_status rc = kf_ranks_sum(t->ranks, v, 7, err);

	*s = (kf_loss){ v[0], v[1], v[2], (int64_t)v[3], (int64_t)v[4], (int64_t)v[5] };
	*tokens = (int64_t)v[6];
	return rc;
}

/* Of the whole gradient, of which each process has a part. */
static kf_status whole_norm(trainer *t, double *norm, kf_err *err)
{
	double squares;
	kf_status rc;

	rc = kf_optim_norm(&t->optim, norm, err);
	if (rc != KF_OK)
		rc = kf_exchange_failed(&t->optim, lost(t, NULL, rc, err));
	if (!t->ranks || (rc = kf_ranks_agree(t->ranks, rc, err)) != KF_OK)
		return rc;
	squares = *norm * *norm;
	rc = kf_ranks_sum(t->ranks, &squares, 1, err);
	*norm = sqrt(squares);
	return rc;
}

static kf_status run_step(trainer *t, int64_t epoch, kf_err *err)
{
	double start = kf_now(), norm, lr, scale;
	int64_t tokens = 0, own;
	kf_loss sum = { 0 };
	kf_status rc;

	t->at = t->step + 1;
	rc = kf_exchange_failed(&t->optim, run_share(t, &sum, &tokens, err));
	own = tokens;
	if ((rc = kf_ranks_agree(t->ranks, rc, err)) != KF_OK || (rc = sum_losses(t, &sum, &tokens, err)) != KF_OK ||
	    (rc = kf_exchange_grads(&t->optim, err)) != KF_OK || (rc = whole_norm(t, &norm, err)) != KF_OK)
		return rc;
	/* The loss is the mean over the step's rows, however they were cut into micro-batches and shared out. */
	scale = sum.rows ? 1.0 / (double)sum.rows : 0;
	norm *= scale;
	t->loss = sum.loss * scale;
	if (!isfinite(norm) || !isfinite(t->loss))
		/* of several processes none knows whose documents did it */
		return lost(t, t->ranks ? NULL : &t->seen, kf_fail(err, KF_EDATA, "the gradient is not finite. A lower --lr may help."), err);
	t->step++;
	t->tokens += tokens;
	kf_progress_add(&t->bar, (double)(tokens - own));
	if (t->o->clip > 0 && norm > t->o->clip)
		scale *= t->o->clip / norm;
	lr = kf_lr_at(t->o, t->step, t->total);
	if (sum.rows)
		kf_optim_step(&t->optim, t->o, lr, scale, t->step);
	if (sum.rows && (rc = kf_exchange_weights(&t->optim, err)) != KF_OK)
		return rc;
	kf_progress_note(&t->bar, "loss %.4f", t->loss);
	rc = log_record(t, json_pack("{s:I, s:I, s:I, s:f, s:o, s:o, s:f, s:f, s:f, s:f}", "step", (json_int_t)t->step,
		"epoch", (json_int_t)epoch, "tokens", (json_int_t)t->tokens, "loss", t->loss,
		"clm", kf_record_number(sum.clm_rows ? sum.clm / (double)sum.clm_rows : NAN),
		"fusion", kf_record_number(sum.fusion_rows ? sum.fusion / (double)sum.fusion_rows : NAN),
		"lambda", kf_lambda_at(t->o, t->step, t->total), "lr", lr, "grad_norm", norm,
		"tokens_per_second", (double)tokens / (kf_now() - start)), err);
	return kf_ranks_agree(t->ranks, rc, err);
}

/* ---- ends of epochs, and of the run --------------------------------------------------------- */

/* By rank 0, to which the others hand their parts where it has not all. */
static kf_status write_model(trainer *t, const char *dir, kf_err *err)
{
	const bool parts = kf_exchange_masters(&t->optim);
	kf_err end;
	kf_status rc = KF_OK;

	if (!t->first) {
		rc = parts ? kf_exchange_masters_serve(&t->optim, err) : KF_OK;
	} else {
		if ((rc = kf_remove_tree(dir, err)) == KF_OK)
			rc = kf_model_write(t->model, dir, t->dtype, t->tokenizer, parts ? kf_exchange_master : NULL, &t->optim, err);
		if (parts && kf_exchange_masters_end(&t->optim, &end) != KF_OK && rc == KF_OK)
			rc = kf_fail(err, end.code, "%s", end.text);
	}
	return kf_ranks_agree(t->ranks, rc, err);
}

/* In the place of others that no checkpoint names. */
static kf_status write_best(trainer *t, int epoch, kf_err *err)
{
	char dir[KF_PATH_MAX];
	kf_status rc = kf_output_best(dir, t->state, epoch, err);

	if (rc == KF_OK && t->first)
		rc = kf_output_keep_best(t->state, t->named, 2, err);
	if ((rc = kf_ranks_agree(t->ranks, rc, err)) != KF_OK)
		return rc;
	return write_model(t, dir, err);
}

static kf_status end_epoch(trainer *t, int64_t epoch, kf_err *err)
{
	double bits = NAN;
	bool best = epoch > 0;
	kf_status rc;

	if ((rc = kf_exchange_settle(&t->optim, err)) != KF_OK)
		return rc;
	if (t->o->valid) {
		if ((rc = kf_valid_run(&t->valid, t->model, t->ranks, &bits, err)) != KF_OK)
			return rc;
		best = epoch > 0 && (t->best_epoch == 0 || bits < t->best_valid);
		if (epoch == 0)
			t->before = bits;
		rc = log_record(t, json_pack("{s:I, s:I, s:f, s:b}", "epoch", (json_int_t)epoch, "step", (json_int_t)t->step,
			"valid_bits_per_byte", bits, "best", best), err);
		if ((rc = kf_ranks_agree(t->ranks, rc, err)) != KF_OK)
			return rc;
	}
	if (epoch > 0 && t->o->keep_epochs) {
		char dir[KF_PATH_MAX], name[32];

		snprintf(name, sizeof name, "epoch-%lld", (long long)epoch);
		if ((rc = kf_path_join(dir, t->o->out, name, err)) != KF_OK || (rc = write_model(t, dir, err)) != KF_OK)
			return rc;
	}
	/* Without validation the last epoch is the best: written once, at the end. */
	if (best && (t->o->valid || t->step == t->total) && (rc = write_best(t, (int)epoch, err)) != KF_OK)
		return rc;
	if (best) {
		t->best_epoch = (int)epoch;
		t->best_valid = bits;
	}
	t->ended = epoch;
	return KF_OK;
}

/* Between two steps, or within one whose gradients nothing has been done with yet: a checkpoint is as good as any. */
static kf_status stopped(trainer *t, kf_err *err)
{
	kf_err why;
	kf_status rc = t->o->save_every && t->step > 0 ? save(t, &why) : KF_OK;

	return rc == KF_OK ? KF_ESTOPPED : kf_fail(err, rc, "%s (it was stopped by a signal)", why.text);
}

/* Whether the best epoch lies so far back that waiting has an end. */
static bool out_of_patience(const trainer *t, int64_t steps)
{
	return t->o->patience && t->best_epoch && t->step % steps == 0 && t->step / steps - t->best_epoch >= t->o->patience;
}

static kf_status run_epochs(trainer *t, kf_err *err)
{
	int64_t steps = kf_plan_steps(t->docs, t->o->batch_tokens);
	kf_status rc;

	if (t->step == 0 && t->o->valid && (rc = end_epoch(t, 0, err)) != KF_OK)
		return rc;
	/* the end of an epoch in which it was stopped */
	if (t->step > 0 && (t->step % steps == 0 || t->step == t->total) && t->ended < (t->step - 1) / steps + 1 &&
	    (rc = end_epoch(t, (t->step - 1) / steps + 1, err)) != KF_OK)
		return rc == KF_ESTOPPED ? stopped(t, err) : lost_after(t, rc, err);
	while (t->step < t->total && !out_of_patience(t, steps)) {
		int64_t epoch = t->step / steps + 1;

		if ((rc = kf_plan_epoch(&t->plan, t->docs, t->o->batch_tokens, (uint64_t)t->o->seed, epoch, err)) == KF_OK)
			rc = kf_loader_begin(&t->loader, &t->plan, t->step % steps, err);
		if ((rc = kf_ranks_agree(t->ranks, rc, err)) != KF_OK)
			return rc;
		for (int64_t s = t->step % steps; s < steps && t->step < t->total; s++) {
			if ((rc = run_step(t, epoch, err)) != KF_OK)
				return rc == KF_ESTOPPED ? stopped(t, err) : rc;
			if (s + 1 == steps || t->step == t->total)
				rc = end_epoch(t, epoch, err);
			if (rc == KF_OK && t->o->save_every && t->step % t->o->save_every == 0 && t->step < t->total)
				rc = save(t, err);
			if (rc != KF_OK)
				return rc == KF_ESTOPPED ? stopped(t, err) : lost_after(t, rc, err);
		}
	}
	return KF_OK;
}

/* The record of what was done; its presence in state says that training is over. */
static kf_status write_provenance(trainer *t, kf_err *err)
{
	const char *template = json_string_value(json_object_get(kf_set_info(t->set), "chat_template"));
	char path[KF_PATH_MAX];
	json_t *j = json_deep_copy(t->identity);
	kf_status rc;

	if (!j || json_object_set_new(j, "paths", json_pack("{s:o, s:o, s:o}", "model", kf_record_path(t->o->model),
	    "targets", kf_record_path(t->o->targets), "valid", t->o->valid ? kf_record_path(t->o->valid) : json_null())) != 0 ||
	    json_object_set_new(j, "result", json_pack("{s:I, s:I, s:i, s:o, s:o}", "steps", (json_int_t)t->step,
	    "tokens", (json_int_t)t->tokens, "epoch", t->best_epoch, "valid_bits_per_byte", kf_record_number(t->best_valid),
	    "loss", kf_record_number(t->loss))) != 0)
		rc = kf_fail(err, KF_ENOMEM, "no memory for the run's record");
	else if (template && json_object_set_new(j, "chat_template", json_string(template)) != 0)
		rc = kf_fail(err, KF_ENOMEM, "no memory for the run's record");
	else if ((rc = kf_path_join(path, t->state, "kfuse.json", err)) == KF_OK)
		rc = kf_record_write(path, j, err);
	json_decref(j);
	return rc;
}

/* ---- the run ---------------------------------------------------------------------------------- */

static kf_status open_inputs(trainer *t, kf_err *err)
{
	const kf_train_opts *o = t->o;
	const kf_arch *arch;
	const char *template;
	kf_status rc;

	if ((rc = kf_set_open(o->targets, KF_SET_KINDS, &t->set, err)) != KF_OK)
		return rc;
	if (kf_set_get_kind(t->set) == KF_SET_CORPUS)
		return kf_fail(err, KF_EMISMATCH, "%s is a corpus. --targets takes what kf-fuse, kf-align or kf-extract wrote", o->targets);
	if ((rc = kf_set_whole(t->set, err)) != KF_OK || (rc = kf_weights_open(o->model, &t->weights, err)) != KF_OK ||
	    (rc = kf_weights_tokenizer(t->weights, &t->tokenizer, err)) != KF_OK ||
	    (rc = kf_check_tokenizer(t->set, t->tokenizer, o->model, err)) != KF_OK)
		return rc;
	arch = kf_weights_arch(t->weights);
	if (o->context > arch->context)
		return kf_fail(err, KF_EINVAL, "--context %ld is more than the %d tokens that %s was made for", o->context,
			arch->context, o->model);
	t->pack = (kf_pack){ .V = arch->V, .context = o->context ? (int)o->context : arch->context,
		.bos = kf_tokenizer_bos(t->tokenizer), .fusion = o->lambda < 1 };
	/* conversations of the validation text, and those that the trained model will be given, are rendered as the targets' were */
	template = json_string_value(json_object_get(kf_set_info(t->set), "chat_template"));
	if (template && (rc = kf_chat_adopt(template, t->tokenizer, err)) != KF_OK)
		return kf_context(err, rc, "%s", o->targets);
	if (o->valid && (rc = kf_valid_open(o->valid, t->tokenizer, template, &t->pack, &t->valid, err)) != KF_OK)
		return kf_context(err, rc, "--valid");
	return make_identity(t, err);
}

static kf_status open_model(trainer *t, kf_err *err)
{
	kf_model_opts opts = { .train = true, .part = kf_ranks_rank(t->ranks), .parts = kf_ranks_size(t->ranks),
		.keep_bytes = t->o->keep_mb < 0 ? (size_t)512000000 : (size_t)t->o->keep_mb * 1000000 };
	kf_status rc;
	int64_t steps;

	if ((rc = kf_docs_open(t->set, t->o->fold, t->o->folds, &t->docs, err)) != KF_OK)
		return rc;
	steps = kf_plan_steps(t->docs, t->o->batch_tokens);
	if (steps == 0 && t->o->folds > 1)
		return kf_fail(err, KF_EDATA, "%s has no tokens to train on outside fold %d/%d: whole texts are left out, by their id, and this fold has all "
			"of them. Give the text as more documents with ids of their own.", t->o->targets, t->o->fold, t->o->folds);
	if (steps == 0)
		return kf_fail(err, KF_EDATA, "%s has no tokens to train on", t->o->targets);
	t->total = steps * t->o->epochs;
	if (t->o->max_steps && t->total > t->o->max_steps)
		t->total = t->o->max_steps;
	if ((rc = kf_loader_init(&t->loader, t->docs, &t->pack, t->o->micro_tokens, opts.part, opts.parts, err)) != KF_OK ||
	    (rc = kf_train_check_memory(t->weights, t->x, t->o->moments8, opts.parts, err)) != KF_OK ||
	    (rc = kf_model_new(t->weights, t->x, &opts, &t->model, err)) != KF_OK ||
	    (rc = kf_optim_init(&t->optim, t->model, t->x, t->o->moments8, t->ranks, err)) != KF_OK)
		return rc;
	return t->o->keep_mb < 0 ? kf_model_keep_free(t->model, err) : KF_OK;
}

/* The new run can begin: what it takes the place of goes. */
static kf_status replace(trainer *t, kf_err *err)
{
	kf_status rc = KF_OK;

	if (t->first && (rc = kf_train_log_check(&t->log, err)) == KF_OK)
		rc = kf_output_clear(t->o->out, t->identity, err);
	return kf_ranks_agree(t->ranks, rc, err);
}

static kf_status train(trainer *t, kf_out_state state, kf_train_result *out, kf_err *err)
{
	double tokens;
	kf_status rc;

	if ((rc = kf_ranks_agree(t->ranks, open_model(t, err), err)) != KF_OK ||
	    (rc = kf_ranks_agree(t->ranks, kf_exchange_begin(&t->optim, err), err)) != KF_OK ||
	    (state == KF_OUT_REPLACE && (rc = replace(t, err)) != KF_OK) || (rc = restore(t, err)) != KF_OK)
		return rc;
	if (t->first)
		rc = kf_train_log_open(&t->log, t->o->out, t->saved > 0, err);
	if ((rc = kf_ranks_agree(t->ranks, rc, err)) != KF_OK)
		return rc;
	out->resumed = t->step;
	tokens = (double)t->docs->total * (double)t->total / (double)kf_plan_steps(t->docs, t->o->batch_tokens);
	kf_progress_start(&t->bar, "train", "tokens", tokens, t->o->progress);
	kf_progress_skip(&t->bar, (double)t->tokens);
	t->at = t->step;
	rc = run_epochs(t, err);
	kf_progress_end(&t->bar);
	if (rc != KF_OK)
		return t->ranks && t->ranks->lost ? lost(t, NULL, rc, err) : rc;
	return kf_ranks_agree(t->ranks, t->first ? write_provenance(t, err) : KF_OK, err);
}

static kf_status run(trainer *t, kf_train_result *out, kf_err *err)
{
	const kf_train_opts *o = t->o;
	kf_out_state state = KF_OUT_NEW;
	kf_status rc;

	if ((rc = kf_ranks_agree(t->ranks, open_inputs(t, err), err)) != KF_OK || (rc = check_identity(t, err)) != KF_OK ||
	    (rc = kf_path_join(t->state, o->out, "state", err)) != KF_OK ||
	    (rc = kf_path_join(t->log.path, o->log ? "." : o->out, o->log ? o->log : "log.jsonl", err)) != KF_OK)
		return rc;
	if (o->log)
		snprintf(t->log.path, sizeof t->log.path, "%s", o->log);
	rc = t->first ? kf_output_begin(o, t->identity, &state, &t->lock, err) : KF_OK;
	if ((rc = kf_ranks_agree(t->ranks, rc, err)) != KF_OK ||
	    (t->ranks && (rc = kf_ranks_broadcast(t->ranks, 0, &state, sizeof state, err)) != KF_OK))
		return rc;
	if (state == KF_OUT_CURRENT) {
		out->current = true;
		return kf_ranks_agree(t->ranks, t->first ? kf_output_end(o->out, o->keep_state, &t->lock, err) : KF_OK, err);
	}
	if (state != KF_OUT_TRAINED && (rc = train(t, state, out, err)) != KF_OK)
		return rc;
	rc = t->first ? kf_output_publish(o->out, err) : KF_OK;
	if (t->first && rc == KF_OK)
		rc = kf_output_end(o->out, o->keep_state, &t->lock, err);
	if ((rc = kf_ranks_agree(t->ranks, rc, err)) != KF_OK)
		return rc;
	out->steps = t->step;
	out->tokens = t->tokens;
	out->epoch = t->best_epoch;
	out->valid = t->best_valid;
	out->before = t->before;
	out->loss = t->loss;
	return KF_OK;
}

kf_status kf_train(const kf_train_opts *o, kf_exec *x, kf_train_result *out, kf_err *err)
{
	static const kf_dtype DTYPES[] = { KF_F32, KF_BF16, KF_F16 };
	trainer *t = kf_zalloc(1, sizeof *t);
	kf_status rc;
	bool locked;

	*out = (kf_train_result){ .valid = NAN, .before = NAN, .loss = NAN };
	if (!t)   /* said where the others meet first */
		return kf_ranks_agree(o->ranks, kf_fail(err, KF_ENOMEM, "no memory for a training run"), err);
	t->o = o;
	t->x = x;
	t->ranks = o->ranks;
	t->first = kf_ranks_first(o->ranks);
	t->dtype = DTYPES[o->dtype];
	t->lock.fd = -1;
	t->best_valid = t->before = t->loss = NAN;
	rc = run(t, out, err);
	kf_train_log_close(&t->log);
	locked = t->lock.fd >= 0;
	kf_lock_drop(&t->lock);
	if (rc != KF_OK && locked)
		rmdir(t->state);   /* where nothing has begun it has had the lock alone */
	json_decref(t->identity);
	kf_loader_release(&t->loader);
	kf_plan_release(&t->plan);
	kf_optim_release(&t->optim);
	kf_model_free(t->model);
	kf_valid_release(&t->valid);
	kf_docs_close(t->docs);
	kf_set_close(t->set);
	kf_tokenizer_free(t->tokenizer);
	kf_weights_close(t->weights);
	kf_free(t);
	return rc;
}
