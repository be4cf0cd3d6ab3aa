#include "report/input.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "report/spread.h"

#define JSON_MAX ((size_t)64 << 20)
#define LINES_MAX ((size_t)256 << 20)

/* ---- JSON ---- */

double input_number(const json_t *v)
{
	return json_is_number(v) ? json_number_value(v) : NAN;
}

double input_real(const json_t *o, const char *key)
{
	return input_number(json_object_get(o, key));
}

const json_t *input_at(const json_t *v, ...)
{
	va_list ap;
	const char *key;

	va_start(ap, v);
	while (v && (key = va_arg(ap, const char *))) v = json_object_get(v, key);
	va_end(ap);
	return v;
}

const char *input_string(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static kf_status read_json(const char *path, json_t **out, kf_err *err)
{
	kf_buf text = { 0 };
	json_error_t e;
	kf_status rc = kf_file_read(path, JSON_MAX, &text, err);

	*out = NULL;
	if (rc == KF_OK && !(*out = json_loadb((const char *)text.data, text.len, 0, &e)))
		rc = kf_fail(err, KF_EDATA, "%s is no JSON: line %d: %s", path, e.line, e.text);
	else if (rc == KF_OK && !json_is_object(*out))
		rc = kf_fail(err, KF_EDATA, "%s is no report: it holds no JSON object", path);
	kf_buf_release(&text);
	return rc;
}

/* Call fn for every line; a token may hold a NUL. A last line without its end is what a killed program left: it is not read. notes: nor is
 * any other line that is no JSON object, which is an error else. */
static kf_status read_lines(const char *path, bool notes, kf_status (*fn)(void *arg, json_t *line, const char *path, int n, kf_err *err),
	void *arg, kf_err *err)
{
	kf_buf text = { 0 };
	json_error_t e;
	kf_status rc = kf_file_read(path, LINES_MAX, &text, err);
	const char *p = (const char *)text.data, *end = p + text.len, *nl;

	for (int n = 1; rc == KF_OK && p < end && (nl = memchr(p, '\n', (size_t)(end - p))); n++, p = nl + 1) {
		json_t *line = nl > p ? json_loadb(p, (size_t)(nl - p), JSON_ALLOW_NUL, &e) : NULL;

		if (nl == p || (notes && !json_is_object(line))) {
			json_decref(line);
			continue;
		}
		if (!line) rc = kf_fail(err, KF_EDATA, "%s, line %d is no JSON: %s", path, n, e.text);
		else if (!json_is_object(line)) rc = kf_fail(err, KF_EDATA, "%s, line %d holds no JSON object", path, n);
		else rc = fn(arg, line, path, n, err);
		json_decref(line);
	}
	kf_buf_release(&text);
	return rc;
}

/* Room for one more. */
static bool grow(void **items, size_t n, size_t *cap, size_t size)
{
	size_t more = *cap ? *cap * 2 : 64;
	void *p;

	if (n < *cap) return true;
	if (!(p = realloc(*items, more * size))) return false;
	*items = p;
	*cap = more;
	return true;
}

/* ---- trained models ---- */

static kf_status log_line(void *arg, json_t *line, const char *path, int n, kf_err *err)
{
	trained *m = arg;

	(void)path;
	(void)n;
	if (json_is_number(json_object_get(line, "valid_bits_per_byte"))) {
		if (!grow((void **)&m->epochs, m->n_epochs, &m->cap_epochs, sizeof *m->epochs)) goto nomem;
		m->epochs[m->n_epochs++] = (log_epoch){ .epoch = input_real(line, "epoch"),
			.step = input_real(line, "step"),
			.bits = input_real(line, "valid_bits_per_byte"),
			.best = json_is_true(json_object_get(line, "best")) };
	} else if (json_is_number(json_object_get(line, "loss"))) {
		if (!grow((void **)&m->steps, m->n_steps, &m->cap_steps, sizeof *m->steps)) goto nomem;
		m->steps[m->n_steps++] = (log_step){ .step = input_real(line, "step"),
			.epoch = input_real(line, "epoch"), .tokens = input_real(line, "tokens"),
			.loss = input_real(line, "loss"), .clm = input_real(line, "clm"),
			.fusion = input_real(line, "fusion"), .lambda = input_real(line, "lambda"),
			.lr = input_real(line, "lr"), .rate = input_real(line, "tokens_per_second") };
	}
	return KF_OK;
nomem:
	return kf_fail(err, KF_ENOMEM, "no memory for a training log");
}

/* "NAME=DIR" or "DIR", whose name is its last part. */
static char *split_name(const char *text, const char **dir)
{
	const char *eq = strchr(text, '='), *slash = strchr(text, '/'), *begin = text, *end = text + strlen(text);
	char *name;

	*dir = text;
	if (eq && eq > text && (!slash || eq < slash)) {
		*dir = eq + 1;
		end = eq;
	} else {
		while (end > text + 1 && end[-1] == '/') end--;
		for (begin = end; begin > text && begin[-1] != '/';) begin--;
	}
	if (!(name = kf_alloc((size_t)(end - begin) + 1, 1))) return NULL;
	memcpy(name, begin, (size_t)(end - begin));
	name[end - begin] = 0;
	return name;
}

/* With --log the log, or what is left of it when the run goes on, is written elsewhere. A merged model has none. */
static void check_log(trained *m)
{
	double steps = input_number(input_at(m->record, "result", "steps", NULL));

	m->elsewhere = isfinite(steps) && !(m->n_steps && m->steps[0].step <= 1 && m->steps[m->n_steps - 1].step >= steps);
	if (m->elsewhere) m->n_steps = m->n_epochs = 0;
}

static kf_status read_model(const char *text, trained *m, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_status rc;

	if (!(m->name = split_name(text, &m->dir))) return kf_fail(err, KF_ENOMEM, "no memory for a model's name");
	if (!kf_is_dir(m->dir)) return kf_fail(err, KF_ENOTFOUND, "there is no folder %s", m->dir);
	if ((rc = kf_path_join(path, m->dir, "kfuse.json", err)) != KF_OK) return rc;
	if (!kf_exists(path))
		return kf_fail(err, KF_ENOTFOUND, "%s has no kfuse.json: it is no folder that kf-train or kf-merge wrote", m->dir);
	if ((rc = read_json(path, &m->record, err)) != KF_OK) return rc;
	if ((rc = kf_path_join(path, m->dir, "log.jsonl", err)) != KF_OK) return rc;
	if (kf_exists(path) && (rc = read_lines(path, false, log_line, m, err)) != KF_OK) return rc;
	check_log(m);
	return KF_OK;
}

/* ---- sets ---- */

static kf_status times_line(void *arg, json_t *line, const char *path, int n, kf_err *err)
{
	set_input *s = arg;
	double seconds = input_real(line, "seconds"), tokens = input_real(line, "tokens");

	(void)path;
	(void)n;
	(void)err;
	if (seconds > 0 && tokens > 0) {
		s->seconds += seconds;
		s->timed_tokens += tokens;
	}
	return KF_OK;
}

static kf_status read_set(const char *dir, set_input *s, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_status rc;

	if ((rc = kf_set_open(dir, KF_SET_KINDS, &s->set, err)) != KF_OK) return rc;
	s->kind = kf_set_get_kind(s->set);
	s->manifest = kf_set_manifest(s->set);
	if ((rc = kf_path_join(path, dir, "times.log", err)) != KF_OK) return rc;
	return kf_exists(path) ? read_lines(path, true, times_line, s, err) : KF_OK;
}

/* ---- traces ---- */

/* A document of a trace, checked here so that who shows it need not. */
static bool good_trace(const json_t *d)
{
	const json_t *models = json_object_get(d, "models"), *cut = json_object_get(d, "cut"), *v, *c;
	const json_t *weights = json_object_get(d, "weights"), *candidates = json_object_get(d, "candidates");
	const json_t *label = json_object_get(d, "label"), *context = json_object_get(d, "context");
	const json_t *text = json_object_get(d, "text");
	size_t n = json_array_size(weights), m = json_array_size(models), i, k, before = 0;

	if (!m || m > NAMES || !json_is_string(text) || !json_is_array(weights) || json_array_size(cut) != n + 1 ||
	    json_array_size(candidates) != n || json_array_size(label) != n || (context && json_array_size(context) != n))
		return false;
	json_array_foreach(models, i, v)
		if (!json_is_string(v)) return false;
	json_array_foreach(cut, i, v) {
		json_int_t at = json_is_integer(v) ? json_integer_value(v) : -1;

		if (at < (json_int_t)before || (size_t)at > json_string_length(text)) return false;
		before = (size_t)at;
	}
	json_array_foreach(weights, i, v)
		if (!json_is_null(v) && json_array_size(v) != m) return false;
	json_array_foreach(candidates, i, v) {
		json_int_t l = json_integer_value(json_array_get(label, i));

		if (!json_is_array(v) || l < -1 || l >= (json_int_t)json_array_size(v)) return false;
		json_array_foreach(v, k, c)
			if (json_array_size(c) != m + 2 || !json_is_string(json_array_get(c, 0))) return false;
	}
	return true;
}

static kf_status trace_line(void *arg, json_t *line, const char *path, int n, kf_err *err)
{
	input *in = arg;

	if (!good_trace(line)) return kf_fail(err, KF_EDATA, "%s, line %d is no document of kf-fuse --trace", path, n);
	return json_array_append(in->traces, line) == 0 ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for a trace");
}

/* ---- who is who ---- */

static void add_source(input *in, const char *name)
{
	if (!name || !*name || (in->target && strcmp(name, in->target) == 0)) return;
	for (int i = 0; i < in->n_sources; i++)
		if (strcmp(in->source[i], name) == 0) return;
	if (in->n_sources < NAMES) in->source[in->n_sources++] = name;
}

static void find_names(input *in)
{
	const json_t *name;
	size_t i;

	for (int s = 0; s < in->n_sets && !in->target; s++)
		if (in->set[s].kind == KF_SET_ALIGNED)
			in->target = json_string_value(json_object_get(kf_set_info(in->set[s].set), "target"));
	for (int s = 0; s < in->n_sets; s++)
		if (in->set[s].kind == KF_SET_ALIGNED)
			add_source(in, json_string_value(json_object_get(kf_set_info(in->set[s].set), "source")));
	for (int s = 0; s < in->n_sets; s++)
		if (in->set[s].kind == KF_SET_TARGETS)
			json_array_foreach(json_object_get(kf_set_info(in->set[s].set), "models"), i, name)
				add_source(in, json_string_value(name));
	for (size_t d = 0; d < json_array_size(in->traces); d++)
		json_array_foreach(json_object_get(json_array_get(in->traces, d), "models"), i, name)
			add_source(in, json_string_value(name));
}

static void add_domains(input *in, const json_t *by_domain)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)by_domain, name, v) {
		bool known = false;

		for (int i = 0; i < in->n_domains; i++) known |= strcmp(in->domain[i], name) == 0;
		if (!known && in->n_domains < NAMES) in->domain[in->n_domains++] = name;
	}
}

/* The name as the source's or the target's own string, or NULL. */
static const char *taking_part(const input *in, const char *name)
{
	if (in->target && strcmp(name, in->target) == 0) return in->target;
	for (int i = 0; i < in->n_sources; i++)
		if (strcmp(in->source[i], name) == 0) return in->source[i];
	return NULL;
}

/* But for slashes at the end. */
static bool same_folder(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);

	while (n > 1 && a[n - 1] == '/') n--;
	while (m > 1 && b[m - 1] == '/') m--;
	return n == m && memcmp(a, b, n) == 0;
}

const char *input_set_name(const input *in, const char *name)
{
	const char *path = input_string(input_at(in->eval, "models", NULL), name);
	const char *known = taking_part(in, name);
	char last[KF_NAME_MAX];

	/* sets have a model's name from its path, too */
	kf_path_name(path, last);
	if (!known) known = taking_part(in, last);
	for (int s = 0; !known && s < in->n_sets; s++)
		if (in->set[s].kind == KF_SET_LOGITS && same_folder(kf_set_dir(in->set[s].set), path))
			known = taking_part(in, kf_set_info_name(in->set[s].set, "model"));
	return known;
}

int input_slot(const input *in, const char *name)
{
	const char *known = input_set_name(in, name);

	if (!known) return -2;
	for (int i = 0; i < in->n_sources; i++)
		if (strcmp(in->source[i], known) == 0) return i % SLOTS;
	return -1;
}

/* The result: what --result says, or what all comparisons are of; where they are of several, the one that does best in the mean,
 * of those that are in the most runs. */
static kf_status find_result(input *in, kf_err *err)
{
	const json_t *bpb = input_at(in->eval, "bits_per_byte", NULL), *list = input_at(in->eval, "comparisons", NULL), *c;
	double best = INFINITY;
	int runs = 0;
	size_t i, k;

	in->candidates = 1;
	if (in->o->result) {
		if (in->eval && !json_object_get(bpb ? bpb : input_at(in->eval, "models", NULL), in->o->result))
			return kf_fail(err, KF_EINVAL, "--result %s: %s has no such model", in->o->result, in->o->evals[0]);
		in->result = in->o->result;
		return KF_OK;
	}
	in->candidates = 0;
	json_array_foreach(list, i, c) {
		const char *a = input_string(c, "a");
		spread s = spread_bits(in, a, "mean");

		if (s.n > runs || (s.n == runs && s.mean < best) || (!in->result && json_object_get(bpb, a))) {
			best = s.mean;
			runs = s.n;
			in->result = a;
		}
	}
	/* those that it is the best of */
	json_array_foreach(list, i, c) {
		const char *a = input_string(c, "a");
		bool again = false;

		for (k = 0; k < i; k++) again |= strcmp(input_string(json_array_get(list, k), "a"), a) == 0;
		in->candidates += !again && spread_bits(in, a, "mean").n == runs;
	}
	return KF_OK;
}

/* ---- the whole ---- */

static kf_status read_eval(const char *path, json_t **out, kf_err *err)
{
	kf_status rc = read_json(path, out, err);
	const char *name;
	json_t *v;

	if (rc != KF_OK) return rc;
	if (!json_is_object(json_object_get(*out, "models")))
		return kf_fail(err, KF_EDATA, "%s is no report of kf-eval: it has no \"models\"", path);
	json_object_foreach(json_object_get(*out, "bits_per_byte"), name, v)
		if (!json_is_object(v)) return kf_fail(err, KF_EDATA, "%s: \"bits_per_byte\" of \"%s\" is not by domain", path, name);
	return KF_OK;
}

kf_status input_read(const kf_report_opts *o, input *in, kf_err *err)
{
	const json_t *domains;
	kf_status rc;

	memset(in, 0, sizeof *in);
	in->o = o;
	if (o->n_sets > KF_REPORT_SETS || o->n_models > KF_REPORT_MODELS || o->n_evals > KF_REPORT_EVALS)
		return kf_fail(err, KF_EINVAL, "a report has at most %d sets, %d models and %d evaluations", KF_REPORT_SETS, KF_REPORT_MODELS,
			KF_REPORT_EVALS);
	if (!(in->traces = json_array())) return kf_fail(err, KF_ENOMEM, "no memory for traces");
	for (; in->n_runs < o->n_evals; in->n_runs++)
		if ((rc = read_eval(o->evals[in->n_runs], &in->run[in->n_runs], err)) != KF_OK) {
			in->n_runs++;
			return rc;
		}
	if ((rc = runs_check(in, err)) != KF_OK) return rc;
	in->eval = in->n_runs ? in->run[0] : NULL;
	for (; in->n_sets < o->n_sets; in->n_sets++)
		if ((rc = read_set(o->sets[in->n_sets], &in->set[in->n_sets], err)) != KF_OK) {
			in->n_sets++;
			return rc;
		}
	for (; in->n_models < o->n_models; in->n_models++)
		if ((rc = read_model(o->models[in->n_models], &in->model[in->n_models], err)) != KF_OK) {
			in->n_models++;
			return rc;
		}
	for (int i = 0; i < o->n_traces; i++)
		if ((rc = read_lines(o->traces[i], false, trace_line, in, err)) != KF_OK) return rc;
	find_names(in);
	add_domains(in, input_at(in->eval, "documents", NULL));
	for (int s = 0; s < in->n_sets; s++)
		if ((domains = input_at(in->set[s].manifest, "stats", "domains", NULL))) add_domains(in, domains);
	return find_result(in, err);
}

void input_release(input *in)
{
	for (int i = 0; i < in->n_sets; i++) kf_set_close(in->set[i].set);
	for (int i = 0; i < in->n_models; i++) {
		kf_free(in->model[i].name);
		json_decref(in->model[i].record);
		free(in->model[i].steps);
		free(in->model[i].epochs);
	}
	json_decref(in->traces);
	for (int r = 0; r < in->n_runs; r++) json_decref(in->run[r]);
	memset(in, 0, sizeof *in);
}
