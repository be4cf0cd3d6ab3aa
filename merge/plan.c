#include "merge/plan.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Which options a method has. */
static const struct {
	const char *name;
	bool weights, normalize, density;
	bool normalizes;           /* unless told otherwise */
} METHODS[] = {
	[KF_MERGE_SCE] = { .name = "sce" },
	[KF_MERGE_VARM] = { .name = "varm" },
	[KF_MERGE_LINEAR] = { .name = "linear", .weights = true, .normalize = true, .normalizes = true },
	[KF_MERGE_SLERP] = { .name = "slerp" },
	[KF_MERGE_TASK] = { .name = "task-arithmetic", .weights = true, .normalize = true },
	[KF_MERGE_TIES] = { .name = "ties", .weights = true, .normalize = true, .density = true,
		.normalizes = true },
	[KF_MERGE_DARE] = { .name = "dare", .weights = true, .normalize = true, .density = true },
	[KF_MERGE_DARE_TIES] = { .name = "dare-ties", .weights = true, .normalize = true, .density = true },
};
static const char *const GRAINS[] = { "tensor", "module", "layer", "model" };

/* ---- values ---- */

static kf_status parse_weights(const char *text, int n, double *out, kf_err *err)
{
	const char *p = text;
	int count = 0;

	for (;;) {
		char *end;
		double v;

		errno = 0;
		v = strtod(p, &end);
		if (end == p || (*end && *end != ',') || errno || !isfinite(v))
			return kf_fail(
				err, KF_EUSAGE, "--weights %s: must be numbers with commas between, one a model", text);
		if (count < n) out[count] = v;
		count++;
		if (!*end) break;
		p = end + 1;
	}
	if (count != n)
		return kf_fail(
			err, KF_EUSAGE, "--weights %s has %d numbers, but there are %d --models", text, count, n);
	return KF_OK;
}

/* An option that only some methods have: its value, or the default where none is given. */
static kf_status take(
	const char *name, bool has, double given, double otherwise, const char *method, double *out, kf_err *err)
{
	*out = has ? otherwise : 0;
	if (isnan(given)) return KF_OK;
	if (!has) return kf_fail(err, KF_EUSAGE, "--%s has no meaning with --method %s", name, method);
	*out = given;
	return KF_OK;
}

static kf_status check_count(const kf_merge_opts *o, kf_err *err)
{
	int n = o->models.n;

	if (n < 1) return kf_fail(err, KF_EUSAGE, "no --models to merge");
	if (o->method == KF_MERGE_SLERP && n != 2)
		return kf_fail(err, KF_EUSAGE,
			"--method slerp goes from one model to another: it takes two --models, not %d", n);
	if (o->method == KF_MERGE_SCE && n < 2)
		return kf_fail(
			err, KF_EUSAGE, "--method sce compares models with one another: it takes two --models or more");
	if (kf_merge_wants_pivot(o->method) && !o->pivot)
		return kf_fail(err, KF_EUSAGE, "--method %s merges changes from a --pivot, which is missing",
			METHODS[o->method].name);
	return KF_OK;
}

kf_status kf_merge_plan(const kf_merge_opts *o, kf_merge_how *how, kf_err *err)
{
	const char *name = METHODS[o->method].name;
	double sum = 0;
	kf_status rc;

	memset(how, 0, sizeof *how);
	how->method = o->method;
	how->mergekit = o->mergekit;
	how->seed = (uint64_t)o->seed;
	if ((rc = check_count(o, err)) != KF_OK) return rc;
	rc = take("density", METHODS[o->method].density, o->density, 0.6, name, &how->density, err);
	if (rc != KF_OK ||
		(rc = take("select", o->method == KF_MERGE_SCE, o->select, 0.1, name, &how->select, err)) != KF_OK ||
		(rc = take("t", o->method == KF_MERGE_SLERP, o->t, 0.5, name, &how->t, err)) != KF_OK)
		return rc;
	if (o->grain != KF_GRAIN_TENSOR && o->method != KF_MERGE_VARM)
		return kf_fail(
			err, KF_EUSAGE, "--granularity %s has no meaning with --method %s", GRAINS[o->grain], name);
	if (o->mergekit && o->method == KF_MERGE_VARM)
		return kf_fail(
			err, KF_EUSAGE, "--compat mergekit has no meaning with --method varm, which mergekit has not");
	if (o->normalize && !METHODS[o->method].normalize)
		return kf_fail(err, KF_EUSAGE, "--normalize has no meaning with --method %s", name);
	how->normalize = o->normalize ? o->normalize == 1 : METHODS[o->method].normalizes;
	for (int j = 0; j < o->models.n; j++) how->weight[j] = 1;
	if (o->weights && !METHODS[o->method].weights)
		return kf_fail(err, KF_EUSAGE, "--weights has no meaning with --method %s", name);
	if (o->weights && (rc = parse_weights(o->weights, o->models.n, how->weight, err)) != KF_OK) return rc;
	for (int j = 0; j < o->models.n; j++) sum += how->weight[j];
	/* by votes the weights of those that agree divide, element by element */
	if (how->normalize && o->method != KF_MERGE_TIES && o->method != KF_MERGE_DARE_TIES && fabs(sum) < KF_MERGE_NO_WEIGHT)
		return kf_fail(err, KF_EUSAGE, "--weights %s: their sum is 0, by which --normalize yes would divide",
			o->weights);
	return KF_OK;
}

/* ---- identity ---- */

static json_t *options(const kf_merge_opts *o, const kf_merge_how *how, kf_dtype dtype)
{
	json_t *all = json_pack("{s:s, s:s, s:s, s:I}", "method", METHODS[o->method].name, "compat",
		o->mergekit ? "mergekit" : "none", "dtype", kf_dtype_name(dtype), "max-shard-bytes",
		(json_int_t)o->shard_bytes);
	bool ok = all != NULL;

	if (ok && METHODS[o->method].weights) {
		json_t *weights = json_array();
		for (int j = 0; ok && j < o->models.n; j++)
			ok = json_array_append_new(weights, json_real(how->weight[j])) == 0;
		ok = json_object_set_new(all, "weights", weights) == 0 && ok;
	}
	if (ok && METHODS[o->method].normalize)
		ok = json_object_set_new(all, "normalize", json_boolean(how->normalize)) == 0;
	if (ok && METHODS[o->method].density)
		ok = json_object_set_new(all, "density", json_real(how->density)) == 0;
	if (ok && (o->method == KF_MERGE_DARE || o->method == KF_MERGE_DARE_TIES))
		ok = json_object_set_new(all, "seed", json_integer(o->seed)) == 0;
	if (ok && o->method == KF_MERGE_SCE) ok = json_object_set_new(all, "select", json_real(how->select)) == 0;
	if (ok && o->method == KF_MERGE_SLERP) ok = json_object_set_new(all, "t", json_real(how->t)) == 0;
	if (ok && o->method == KF_MERGE_VARM)
		ok = json_object_set_new(all, "granularity", json_string(GRAINS[o->grain])) == 0;
	if (ok) return all;
	json_decref(all);
	return NULL;
}

kf_status kf_merge_identity(const kf_merge_opts *o, const kf_merge_how *how, kf_dtype dtype,
	const kf_merge_inputs *in, kf_pool *pool, json_t **out, kf_err *err)
{
	json_t *fps;
	kf_status rc = kf_merge_fingerprints(in, pool, &fps, err);

	*out = NULL;
	if (rc != KF_OK) return rc;
	*out = json_pack("{s:s, s:s, s:o, s:o}", "program", "kf-merge", "version", KF_VERSION, "options",
		options(o, how, dtype), "inputs", fps);
	return *out ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for the merge's identity");
}
