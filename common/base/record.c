#include "common/base/record.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"

#define MAX_JSON ((size_t)1 << 24)

json_t *kf_record_number(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

json_t *kf_record_path(const char *path)
{
	json_t *v = json_string(path);
	char *s;

	if (v || !(s = kf_strdup(path))) return v;
	for (char *p = s; *p; p++)
		if (*p & 0x80) *p = '?';
	v = json_string(s);
	kf_free(s);
	return v;
}

char *kf_record_canonical(const json_t *value)
{
	return json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(17));
}

kf_status kf_record_write(const char *path, const json_t *value, kf_err *err)
{
	char *text = json_dumps(value, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
	kf_buf b = { 0 };
	kf_status rc;

	if (!text)
		return kf_fail(err, KF_ENOMEM, "no memory to write %s", path);
	kf_buf_put(&b, text, strlen(text));
	kf_buf_u8(&b, '\n');
	free(text);
	if ((rc = kf_buf_check(&b, err)) == KF_OK)
		rc = kf_file_write_atomic(path, b.data, b.len, err);
	kf_buf_release(&b);
	return rc;
}

kf_status kf_record_read(const char *path, json_t **out, kf_err *err)
{
	kf_buf b = { 0 };
	json_error_t bad;
	kf_status rc = kf_file_read(path, MAX_JSON, &b, err);

	*out = NULL;
	if (rc == KF_OK && !(*out = json_loadb((char *)b.data, b.len, 0, &bad)))
		rc = kf_fail(err, KF_EDATA, "%s is no JSON: %s", path, bad.text);
	kf_buf_release(&b);
	return rc;
}

/* A few words on what differs between two objects of one part ("options", "inputs"). */
static void say_difference(char *text, size_t size, const char *part, const json_t *was, const json_t *is)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)is, key, value) {
		const json_t *old = json_object_get(was, key);
		size_t at = strlen(text);

		if (old && json_equal((json_t *)old, value))
			continue;
		if (strcmp(part, "inputs") == 0) {
			snprintf(text + at, size - at, "%sanother %s", at ? ", " : "", key);
		} else {
			char *a = old ? json_dumps(old, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9)) : NULL;
			char *b = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));

			snprintf(text + at, size - at, "%s--%s was %s and is %s", at ? ", " : "", key, a ? a : "not given", b ? b : "?");
			free(a);
			free(b);
		}
	}
	json_object_foreach((json_t *)was, key, value)
		if (!json_object_get(is, key)) {
			size_t at = strlen(text);
			snprintf(text + at, size - at, "%sno %s", at ? ", " : "", key);
		}
}

kf_status kf_record_same(const char *dir, const json_t *was, const json_t *is, const char *what, const char *advice,
	kf_err *err)
{
	static const char *const PARTS[] = { "options", "inputs" };
	char text[512] = "";

	for (int i = 0; i < 2; i++)
		say_difference(text, sizeof text, PARTS[i], json_object_get(was, PARTS[i]), json_object_get(is, PARTS[i]));
	if (!text[0])
		return KF_OK;
	return kf_fail(err, KF_EMISMATCH, "%s holds %s (%s). %s", dir, what, text, advice);
}
