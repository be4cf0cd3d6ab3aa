#include "common/base/memory.h"
#include "common/base/opt.h"
#include "common/base/opt_help.h"
#include "common/base/stop.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OPTS 128

/* ---- choices: "a|b|c" ---- */

static int choice_find(const char *choices, const char *word)
{
	size_t n = strlen(word);
	int index = 0;

	for (const char *p = choices;; index++) {
		const char *end = strchr(p, '|');
		size_t len = end ? (size_t)(end - p) : strlen(p);

		if (len == n && memcmp(p, word, n) == 0) return index;
		if (!end) return -1;
		p = end + 1;
	}
}

void kf_opt_choice(const char *choices, int index, char *out, size_t size)
{
	const char *p = choices;

	for (; index > 0 && (p = strchr(p, '|')); index--) p++;
	snprintf(out, size, "%.*s", (int)strcspn(p ? p : "", "|"), p ? p : "");
}

/* ---- values ---- */

/* That say a bound as it was written: a whole number, or a short one. */
static int digits(double v) { return v == floor(v) ? 17 : 15; }

static kf_status in_range(const kf_opt *o, double v, const char *text, kf_err *err)
{
	if (o->flags & KF_OPT_POSITIVE && v <= o->min)
		return kf_fail(err, KF_EINVAL, "--%s %s: must be more than %g", o->name, text, o->min);
	if ((o->min != 0 || o->max != 0) && (v < o->min || v > o->max))
		return kf_fail(err, KF_EINVAL, "--%s %s: must be from %.*g to %.*g", o->name, text, digits(o->min), o->min, digits(o->max), o->max);
	return KF_OK;
}

/* A string is not empty, and one that kf_opt_record keeps is UTF-8, as JSON is. */
static kf_status check_string(const kf_opt *o, const char *text, kf_err *err)
{
	json_t *v = o->flags & KF_OPT_SHAPES ? json_string(text) : json_null();
	const bool good = v != NULL;

	json_decref(v);
	if (!*text) return kf_fail(err, KF_EINVAL, "--%s: empty value", o->name);
	return good ? KF_OK : kf_fail(err, KF_EINVAL, "--%s: its value is not UTF-8, as what is kept in a set must be", o->name);
}

static kf_status set_value(const kf_opt *o, const char *text, kf_err *err)
{
	char *end;
	kf_status rc;

	errno = 0;
	switch (o->kind) {
	case KF_OPT_FLAG:
		*(bool *)o->value = true;
		return KF_OK;
	case KF_OPT_INT: {
		long v = strtol(text, &end, 10);

		if (end == text || *end || errno) return kf_fail(err, KF_EINVAL, "--%s %s: not a whole number", o->name, text);
		*(long *)o->value = v;
		return in_range(o, (double)v, text, err);
	}
	case KF_OPT_REAL: {
		double v = strtod(text, &end);

		if (end == text || *end || errno || !isfinite(v))
			return kf_fail(err, KF_EINVAL, "--%s %s: not a number", o->name, text);
		*(double *)o->value = v;
		return in_range(o, v, text, err);
	}
	case KF_OPT_STRING:
		if ((rc = check_string(o, text, err)) != KF_OK) return rc;
		*(const char **)o->value = text;
		return KF_OK;
	case KF_OPT_LIST: {
		kf_list *list = o->value;

		if ((rc = check_string(o, text, err)) != KF_OK) return rc;
		if (list->n == KF_LIST_MAX) return kf_fail(err, KF_EINVAL, "--%s: given more than %d times", o->name, KF_LIST_MAX);
		list->item[list->n++] = text;
		return KF_OK;
	}
	case KF_OPT_CHOICE: {
		int v = choice_find(o->arg, text);

		if (v < 0) return kf_fail(err, KF_EINVAL, "--%s %s: must be one of %s", o->name, text, o->arg);
		*(int *)o->value = v;
		return KF_OK;
	}
	case KF_OPT_END:
		break;
	}
	return kf_fail(err, KF_EINVAL, "--%s: option of no kind", o->name);
}

/* ---- parsing ---- */

/* The option called by the first n characters of name: exact, else the only one that begins so. */
static kf_status find(const kf_program *p, const char *name, size_t n, int *index, kf_err *err)
{
	int found = -1, several = 0;

	for (int i = 0; p->opts[i].kind != KF_OPT_END; i++) {
		const char *o = p->opts[i].name;

		if (strncmp(o, name, n) != 0) continue;
		if (strlen(o) == n) {
			*index = i;
			return KF_OK;
		}
		if (found >= 0) several = 1;
		found = i;
	}
	if (found < 0)
		return kf_fail(err, KF_EINVAL, "unknown option --%.*s; try %s --help", (int)n, name, p->name);
	if (several) return kf_fail(err, KF_EINVAL, "--%.*s could be several options; try %s --help", (int)n, name, p->name);
	*index = found;
	return KF_OK;
}

kf_status kf_opt_parse(const kf_program *p, int argc, char **argv, kf_list *operands, kf_err *err)
{
	bool given[MAX_OPTS] = { false }, options = true;
	kf_status rc;

	for (int i = 1; i < argc; i++) {
		const char *a = argv[i], *eq, *value = NULL;
		const kf_opt *o;
		size_t n;
		int index = 0;

		if (!options || a[0] != '-' || a[1] == 0) {
			if (!p->operands || !operands)
				return kf_fail(err, KF_EINVAL, "unexpected argument %s; try %s --help", a, p->name);
			if (operands->n == KF_LIST_MAX)
				return kf_fail(err, KF_EINVAL, "more than %d arguments; put the files in a folder", KF_LIST_MAX);
			operands->item[operands->n++] = a;
			continue;
		}
		if (strcmp(a, "--") == 0) {
			options = false;
			continue;
		}
		if (kf_opt_asks(p, a, stdout)) return KF_END;
		if (a[1] != '-') return kf_fail(err, KF_EINVAL, "unknown option %s; try %s --help", a, p->name);
		a += 2;
		eq = strchr(a, '=');
		n = eq ? (size_t)(eq - a) : strlen(a);
		if ((rc = find(p, a, n, &index, err)) != KF_OK) return rc;
		o = &p->opts[index];
		if (o->kind == KF_OPT_FLAG) {
			if (eq) return kf_fail(err, KF_EINVAL, "--%s takes no value", o->name);
		} else if (eq) {
			value = eq + 1;
		} else if (i + 1 < argc) {
			value = argv[++i];
		} else {
			return kf_fail(err, KF_EINVAL, "--%s needs a value: %s", o->name, o->arg);
		}
		if (given[index] && o->kind != KF_OPT_LIST && o->kind != KF_OPT_FLAG)
			return kf_fail(err, KF_EINVAL, "--%s is given twice", o->name);
		given[index] = true;
		if ((rc = set_value(o, value, err)) != KF_OK) return rc;
	}
	for (int i = 0; p->opts[i].kind != KF_OPT_END; i++)
		if (p->opts[i].flags & KF_OPT_REQUIRED && !given[i])
			return kf_fail(err, KF_EINVAL, "--%s %s is missing; try %s --help", p->opts[i].name, p->opts[i].arg, p->name);
	return KF_OK;
}

static bool is_off(const kf_opt *o)
{
	switch (o->kind) {
	case KF_OPT_FLAG: return !*(bool *)o->value;
	case KF_OPT_INT: return !*(long *)o->value;
	case KF_OPT_REAL: return *(double *)o->value == 0;
	case KF_OPT_STRING: return !*(const char **)o->value;
	case KF_OPT_CHOICE: return !*(int *)o->value;
	case KF_OPT_LIST: return !((const kf_list *)o->value)->n;
	case KF_OPT_END: break;
	}
	return false;
}

json_t *kf_opt_record(const kf_program *p)
{
	json_t *record = json_object();

	for (const kf_opt *o = p->opts; record && o->kind != KF_OPT_END; o++) {
		json_t *v = NULL;
		char word[64];

		if (!(o->flags & KF_OPT_SHAPES) || (o->flags & KF_OPT_OFF && is_off(o))) continue;
		switch (o->kind) {
		case KF_OPT_FLAG: v = json_boolean(*(bool *)o->value); break;
		case KF_OPT_INT: v = json_integer(*(long *)o->value); break;
		case KF_OPT_REAL: v = json_real(*(double *)o->value); break;
		case KF_OPT_STRING:
			v = *(const char **)o->value ? json_string(*(const char **)o->value) : json_null();
			break;
		case KF_OPT_CHOICE:
			kf_opt_choice(o->arg, *(int *)o->value, word, sizeof word);
			v = json_string(word);
			break;
		case KF_OPT_LIST: {
			const kf_list *list = o->value;

			v = json_array();
			for (int i = 0; v && i < list->n; i++) json_array_append_new(v, json_string(list->item[i]));
			break;
		}
		case KF_OPT_END: break;
		}
		if (!v || json_object_set_new(record, o->name, v) < 0) {
			json_decref(record);
			return NULL;
		}
	}
	return record;
}

kf_status kf_parse_part(const char *option, const char *text, int *i, int *n, kf_err *err)
{
	char extra;

	*i = 0;
	*n = 1;
	if (!text) return KF_OK;
	if (sscanf(text, "%d/%d%c", i, n, &extra) != 2 || *n < 1 || *i < 0 || *i >= *n)
		return kf_fail(err, KF_EUSAGE, "--%s %s: must be I/N with 0 <= I < N, for example 0/4", option, text);
	return KF_OK;
}

void kf_main_says(const kf_program *p, kf_status rc, kf_err *err)
{
	if (rc == KF_EELSEWHERE || err->code == KF_EELSEWHERE) return;
	/* files' words are quoted in messages: none of them may steer a terminal */
	for (char *c = err->text; *c; c++)
		if ((*c > 0 && *c < ' ' && *c != '\n' && *c != '\t') || *c == 0x7f) *c = '?';
	fprintf(stderr, "%s: %s\n", p->name, err->text[0] ? err->text : kf_status_name(rc));
	err->code = KF_EELSEWHERE;
}

/* 1; kf-slurm is told by another status that what holds the output may be gone later. */
static int failed(kf_status rc)
{
	const char *busy = rc == KF_EBUSY ? getenv("KF_BUSY_STATUS") : NULL;

	return busy && atoi(busy) > 0 ? atoi(busy) : 1;
}

int kf_main(const kf_program *p, int argc, char **argv, kf_status (*run)(const kf_list *operands, kf_err *err))
{
	kf_err err = { KF_OK, "" };
	kf_list operands = { .n = 0 };
	kf_status rc;
	bool usage;

	kf_memory_arm();
	rc = kf_opt_parse(p, argc, argv, &operands, &err);
	usage = rc != KF_OK;
	if (rc == KF_OK) {
		if (p->stops) kf_stop_arm();
		rc = run(&operands, &err);
		usage = rc == KF_EUSAGE;
	}
	if (rc != KF_OK && rc != KF_END) {
		kf_main_says(p, rc, &err);
		if (rc == KF_ESTOPPED) kf_stop_raise();
		return usage ? 2 : failed(rc);
	}
	/* A full disk or closed pipe behind standard output is found out here. */
	errno = 0;
	if ((fflush(stdout) != 0 || ferror(stdout)) && errno != EPIPE) {
		fprintf(stderr, "%s: cannot write standard output: %s\n", p->name, errno ? strerror(errno) : "some of it was not taken");
		return 1;
	}
	return 0;
}
