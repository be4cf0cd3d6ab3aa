#include "common/base/tally.h"

#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/record.h"
#include "common/base/table.h"

static bool grow(kf_tally *t)
{
	int cap = t->cap ? 2 * t->cap : 8;
	char (*name)[64] = kf_zalloc((size_t)cap, sizeof *name);
	double *sum = kf_zalloc((size_t)cap, t->width * sizeof *sum);

	if (!name || !sum) {
		kf_free(name);
		kf_free(sum);
		return false;
	}
	if (t->n) {
		memcpy(name, t->name, (size_t)t->n * sizeof *name);
		memcpy(sum, t->sum, (size_t)t->n * t->width * sizeof *sum);
	}
	kf_free(t->name);
	kf_free(t->sum);
	t->name = name;
	t->sum = sum;
	t->cap = cap;
	return true;
}

void *kf_tally_row(kf_tally *t, const char *domain)
{
	char name[sizeof *t->name];
	const size_t n = kf_text_cut(domain, sizeof name - 1); /* between characters: the name goes into JSON */

	memcpy(name, domain, n);
	memset(name + n, 0, sizeof name - n);
	for (int i = 0; i < t->n; i++)
		if (strcmp(t->name[i], name) == 0) return kf_tally_at(t, i);
	if (t->n == t->cap && !grow(t)) return NULL;
	memcpy(t->name[t->n], name, sizeof name);
	return kf_tally_at(t, t->n++);
}

static void add(double *to, const double *from, size_t n)
{
	for (size_t i = 0; i < n; i++) to[i] += from[i];
}

kf_status kf_tally_add(kf_tally *to, const kf_tally *from, kf_err *err)
{
	for (int i = 0; i < from->n; i++) {
		double *row = kf_tally_row(to, from->name[i]);

		if (!row) return kf_fail(err, KF_ENOMEM, "no memory for statistics");
		add(row, kf_tally_at(from, i), to->width);
	}
	return KF_OK;
}

void kf_tally_total(const kf_tally *t, void *row)
{
	for (int i = 0; i < t->n; i++) add(row, kf_tally_at(t, i), t->width);
}

void kf_tally_release(kf_tally *t)
{
	kf_free(t->name);
	kf_free(t->sum);
	*t = (kf_tally){ .width = t->width };
}

json_t *kf_tally_mean(double sum, double n)
{
	return n > 0 ? kf_record_number(sum / n) : json_null();
}

const char *kf_tally_cell(char *out, const json_t *o, const char *key, double scale, int width, int digits)
{
	const json_t *v = json_object_get(o, key);

	if (json_is_number(v)) snprintf(out, 32, "%*.*f", width, digits, scale * json_number_value(v));
	else snprintf(out, 32, "%*s", width, "-");
	return out;
}
