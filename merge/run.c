/* Whole models: what is asked for, what was made, tensor after tensor into the new folder. */
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/file.h"
#include "common/base/progress.h"
#include "common/base/record.h"
#include "common/base/stop.h"
#include "merge/inputs.h"
#include "merge/plan.h"

typedef struct {
	const kf_merge_opts *o;
	kf_merge_inputs in;
	kf_merge_how how;
	kf_pool *pool;
	kf_merger *merger;
	json_t *identity, *tensors;     /* tensors: name -> weights, for merge.json */
	double *varm;                   /* (tensors, n) weights of varm; NULL for other methods */
	kf_dtype dtype;
	kf_merge_result *result;
	kf_progress bar;
} run;

/* ---- one tensor ---- */

typedef struct {
	kf_tensor pivot, model[KF_MERGE_MODELS];
	kf_merge_input in;
} input;

static void gather(const run *r, int index, input *t)
{
	const kf_tensor *first = kf_weights_at(r->in.first, index);

	t->in = (kf_merge_input){ .name = first->name, .model = t->model, .n = r->in.n };
	if (kf_merge_wants_pivot(r->how.method)) {
		t->pivot = kf_weights_stored(r->in.pivot, kf_weights_find(r->in.pivot, first->name));
		t->in.pivot = &t->pivot;
	}
	for (int j = 0; j < r->in.n; j++)
		t->model[j] = kf_weights_stored(r->in.model[j], kf_weights_find(r->in.model[j], first->name));
}

static void drop(const input *t)
{
	if (t->in.pivot) kf_weights_drop(t->in.pivot);
	for (int j = 0; j < t->in.n; j++) kf_weights_drop(&t->model[j]);
}

/* Puts the file's name before what a merger says of a tensor. */
static kf_status named(const run *r, kf_status rc, const kf_merge_facts *facts, kf_err *err)
{
	if (rc != KF_EDATA) return rc;
	return kf_context(err, rc, "%s", kf_weights_path(facts->bad < 0 ? r->in.pivot : r->in.model[facts->bad]));
}

/* Results that the type written cannot hold. */
struct range { const float *x; uint32_t limit; bool bad[4096]; };

static void check_part(void *arg, size_t begin, size_t end, int worker)
{
	struct range *c = arg;
	uint32_t bad = 0;

	for (size_t i = begin; i < end; i++) {
		union { float f; uint32_t u; } v = { c->x[i] };
		bad |= (v.u & 0x7fffffffu) >= c->limit;
	}
	if (bad) c->bad[worker] = true;
}

static kf_status check_range(const run *r, const kf_tensor *t, const float *x, kf_err *err)
{
	/* the first that rounds to infinity */
	uint32_t limit = r->dtype == KF_F16 ? 0x477ff000u : r->dtype == KF_BF16 ? 0x7f7f8000u : 0x7f800000u;
	struct range c = { .x = x, .limit = limit };
	bool bad = false;

	kf_pool_split(r->pool, (size_t)(t->rows * t->cols), 65536, check_part, &c);
	for (int w = 0; w < kf_pool_size(r->pool); w++) bad |= c.bad[w];
	if (!bad) return KF_OK;
	return kf_fail(err, KF_EDATA, "%s: tensor %s has merged values beyond the range of %s%s", r->o->out,
		t->name, kf_dtype_name(r->dtype),
		r->dtype == KF_F16 ? "; --dtype bf16 or f32 has room for them" : "");
}

/* What merge.json says of a tensor, and its part in the means. */
static kf_status note(run *r, const kf_tensor *t, const kf_merge_facts *f, kf_err *err)
{
	json_t *weights = json_array(), *kept = json_array();
	double values = (double)(t->rows * t->cols);
	bool ok = weights && kept;

	for (int j = 0; ok && j < r->in.n; j++) {
		r->result->weight[j] += f->weight[j] * values;
		r->result->kept[j] += (double)f->kept[j];
		ok = json_array_append_new(weights, json_real(f->weight[j])) == 0 &&
			json_array_append_new(kept, json_real((double)f->kept[j] / values)) == 0;
	}
	r->result->values += t->rows * t->cols;
	ok = ok && json_object_set_new(r->tensors, t->name,
		json_pack("{s:O, s:O}", "weights", weights, "kept", kept)) == 0;
	json_decref(weights);
	json_decref(kept);
	return ok ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for the report");
}

static kf_status merge_one(void *arg, int index, float *out, kf_err *err)
{
	run *r = arg;
	const kf_tensor *first = kf_weights_at(r->in.first, index);
	kf_merge_how how = r->how;
	kf_merge_facts facts;
	kf_status rc = kf_stop_check(err);
	input t;

	if (rc != KF_OK) return rc;
	gather(r, index, &t);
	if (r->varm)
		for (int j = 0; j < r->in.n; j++)
			how.weight[j] = r->varm[(size_t)index * (size_t)r->in.n + (size_t)j];
	rc = named(r, kf_merge_tensor(r->merger, &how, &t.in, out, &facts, err), &facts, err);
	if (rc == KF_OK) rc = check_range(r, first, out, err);
	if (rc == KF_OK) rc = note(r, first, &facts, err);
	drop(&t);
	kf_progress_add(&r->bar, (double)(first->rows * first->cols));
	return rc;
}

/* ---- varm: the size of every change, before anything is merged ---- */

static kf_status survey(run *r, kf_err *err)
{
	int n = kf_weights_count(r->in.first);
	size_t models = (size_t)r->in.n;
	char (*group)[128] = kf_alloc((size_t)n, sizeof *group);
	double *squares = kf_alloc((size_t)n, models * sizeof *squares), sum[KF_MERGE_MODELS];
	kf_merge_facts facts = { 0 };
	kf_status rc = KF_OK;

	r->varm = kf_alloc((size_t)n, models * sizeof *r->varm);
	if (!group || !squares || !r->varm)
		rc = kf_fail(err, KF_ENOMEM, "no memory for the weights of %d tensors", n);
	for (int i = 0; i < n && rc == KF_OK; i++) {
		input t;
		if ((rc = kf_stop_check(err)) != KF_OK) break;
		gather(r, i, &t);
		kf_merge_group(t.in.name, r->o->grain, group[i]);
		rc = kf_merge_squares(r->merger, &t.in, squares + (size_t)i * models, &facts, err);
		rc = named(r, rc, &facts, err);
		drop(&t);
	}
	for (int i = 0; i < n && rc == KF_OK; i++) {
		double all = 0;
		memset(sum, 0, sizeof sum);
		for (int k = 0; k < n; k++)
			for (size_t j = 0; j < models && !strcmp(group[k], group[i]); j++)
				sum[j] += squares[(size_t)k * models + j];
		for (size_t j = 0; j < models; j++) all += sum[j];
		for (size_t j = 0; j < models; j++)
			r->varm[(size_t)i * models + j] = all > 0 ? sum[j] / all : 1 / (double)models;
	}
	kf_free(group);
	kf_free(squares);
	return rc;
}

/* ---- the folder ---- */

static kf_status write_merge_json(const run *r, const char *dir, kf_err *err)
{
	char path[KF_PATH_MAX];
	json_t *all = json_object(), *models = json_array();
	json_t *pivot = r->in.pivot ? kf_record_path(kf_weights_path(r->in.pivot)) : json_null();
	double values = (double)r->result->values;
	bool ok = all && models;
	kf_status rc;

	for (int j = 0; ok && j < r->in.n; j++)
		ok = json_array_append_new(models, json_pack("{s:o, s:f, s:f}", "path", kf_record_path(kf_weights_path(r->in.model[j])),
			"mean_weight", r->result->weight[j] / values, "mean_kept", r->result->kept[j] / values)) == 0;
	ok = ok && json_object_set(all, "options", json_object_get(r->identity, "options")) == 0 &&
		json_object_set(all, "pivot", pivot) == 0 &&
		json_object_set(all, "models", models) == 0 && json_object_set(all, "tensors", r->tensors) == 0;
	if (ok) rc = kf_path_join(path, dir, "merge.json", err);
	else rc = kf_fail(err, KF_ENOMEM, "no memory for the report");
	if (rc == KF_OK) rc = kf_record_write(path, all, err);
	json_decref(all);
	json_decref(models);
	json_decref(pivot);
	return rc;
}

static kf_status write_records(void *arg, const char *dir, kf_err *err)
{
	const run *r = arg;
	char path[KF_PATH_MAX];
	kf_status rc;

	if ((rc = write_merge_json(r, dir, err)) != KF_OK ||
		(rc = kf_path_join(path, dir, "kfuse.json", err)) != KF_OK)
		return rc;
	return kf_record_write(path, r->identity, err);
}

static kf_status write_model(run *r, kf_err *err)
{
	int n = kf_weights_count(r->in.first);
	kf_out_tensor *t = kf_zalloc((size_t)n, sizeof *t);
	kf_status rc;

	if (!t) return kf_fail(err, KF_ENOMEM, "no memory to write %s", r->o->out);
	for (int i = 0; i < n; i++) {
		const kf_tensor *f = kf_weights_at(r->in.first, i);
		t[i] = (kf_out_tensor){ f->name, f->rows, f->cols, f->n_dims, merge_one, r };
		r->result->bytes += f->rows * f->cols * kf_dtype_row_bytes(r->dtype, 1);
	}
	rc = kf_hf_write(r->o->out, &(kf_hf_spec){ .arch = kf_weights_arch(r->in.first), .tensors = t, .n = n,
		.dtype = r->dtype, .stored = true, .shard_bytes = (uint64_t)r->o->shard_bytes,
		.tokenizer = r->in.tokenizer, .replace = r->o->replace, .like = r->in.first, .more = write_records, .arg = r }, err);
	kf_free(t);
	return rc;
}

/* ---- what is there already ---- */

/* No model that goes in is in the folder that what comes out replaces. */
static kf_status check_apart(const kf_merge_opts *o, kf_err *err)
{
	for (int j = 0; j <= o->models.n; j++) {
		const char *path = j < o->models.n ? o->models.item[j] : o->pivot;

		if (path && kf_path_in(path, o->out))
			return kf_fail(err, KF_EINVAL, "%s is in the folder --out %s, where what is merged would replace it. Choose another --out.", path,
				o->out);
	}
	return KF_OK;
}

static kf_status look(const run *r, bool *current, kf_err *err)
{
	char done[KF_PATH_MAX], config[KF_PATH_MAX];
	const char *program;
	json_t *was;
	bool empty;
	kf_status rc;

	*current = false;
	if ((rc = kf_path_join(done, r->o->out, "kfuse.json", err)) != KF_OK ||
		(rc = kf_path_join(config, r->o->out, "config.json", err)) != KF_OK)
		return rc;
	if (!kf_exists(done)) {
		if ((rc = kf_dir_empty(r->o->out, &empty, err)) != KF_OK || empty) return rc;
		return kf_fail(err, KF_EINVAL, "%s is not empty and holds no merged model. Choose another --out, or remove it.", r->o->out);
	}
	if ((rc = kf_record_read(done, &was, err)) != KF_OK) return rc;
	program = json_string_value(json_object_get(was, "program"));
	if (!program || strcmp(program, "kf-merge") != 0) {
		rc = kf_fail(err, KF_EMISMATCH, "%s holds what %.40s made. Choose another --out, or remove it.", r->o->out,
			program ? program : "another program");
	} else {
		rc = kf_record_same(r->o->out, was, r->identity, "another merge", "Choose another --out, or give --replace (make: REPLACE=1) to have this one in its place.",
			err);
		/* somebody began to take it away */
		if (rc == KF_OK && (rc = kf_hf_check(r->o->out, false, err)) != KF_OK && (rc == KF_ENOTFOUND || rc == KF_EDATA))
			rc = kf_context(err, rc, "%s has lost config.json or weights; --replace makes it again", r->o->out);
		*current = rc == KF_OK;
		if (r->o->replace) rc = KF_OK;
	}
	json_decref(was);
	if (!*current) return rc;
	utimensat(AT_FDCWD, done, NULL, 0);
	utimensat(AT_FDCWD, config, NULL, 0);
	return KF_OK;
}

/* ---- the run ---- */

static kf_status work(run *r, kf_err *err)
{
	uint64_t rows = 1, cols = 1;
	double values = 0;
	kf_status rc;

	for (int i = 0; i < kf_weights_count(r->in.first); i++) {
		const kf_tensor *t = kf_weights_at(r->in.first, i);
		if (t->rows > rows) rows = t->rows;
		if (t->cols > cols) cols = t->cols;
		values += (double)(t->rows * t->cols);
	}
	if (!(r->tensors = json_object())) return kf_fail(err, KF_ENOMEM, "no memory for the report");
	if ((rc = kf_merger_new(r->pool, r->in.n, rows, cols, &r->merger, err)) != KF_OK) return rc;
	if (r->how.method == KF_MERGE_VARM && (rc = survey(r, err)) != KF_OK) return rc;
	kf_progress_start(&r->bar, "merge", "values", values, r->o->progress);
	rc = write_model(r, err);
	kf_progress_end(&r->bar);
	return rc;
}

kf_status kf_merge(const kf_merge_opts *o, kf_pool *pool, kf_merge_result *out, kf_err *err)
{
	static const kf_dtype DTYPES[] = { KF_F32, KF_F32, KF_F16, KF_BF16 };
	double begin = kf_now();
	run r = { .o = o, .pool = pool, .result = out };
	kf_status rc;

	memset(out, 0, sizeof *out);
	out->n = o->models.n;
	if ((rc = kf_merge_plan(o, &r.how, err)) != KF_OK || (o->replace && (rc = check_apart(o, err)) != KF_OK) ||
		(rc = kf_merge_open(&r.in, o->pivot, &o->models, err)) != KF_OK)
		goto out;
	r.dtype = out->dtype = o->dtype ? DTYPES[o->dtype] : kf_merge_common_dtype(&r.in);
	if ((rc = kf_merge_identity(o, &r.how, r.dtype, &r.in, pool, &r.identity, err)) != KF_OK ||
		(rc = look(&r, &out->current, err)) != KF_OK || out->current)
		goto out;
	if ((rc = kf_hf_may_write(o->out, o->replace, err)) != KF_OK || (rc = work(&r, err)) != KF_OK) goto out;
	for (int j = 0; j < out->n; j++) {
		out->weight[j] /= (double)out->values;
		out->kept[j] /= (double)out->values;
	}
	out->seconds = kf_now() - begin;
out:
	json_decref(r.identity);
	json_decref(r.tensors);
	kf_free(r.varm);
	kf_merger_free(r.merger);
	kf_merge_close(&r.in);
	return rc;
}
