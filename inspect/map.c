#include "inspect/map.h"

#include <string.h>

#include "common/store/json.h"
#include "common/store/vocabmap.h"

#define NEAR 10      /* distances told one by one */
#define EXAMPLES 3   /* of each */

static void text(FILE *out, const char *s)
{
	kf_json_string(out, (const uint8_t *)s, strlen(s));
}

static void side(FILE *out, const char *what, const char *name, int32_t n, kf_fp fp)
{
	char hex[KF_FP_HEX];

	kf_fp_hex(fp, hex);
	fprintf(out, "%-14s ", what);
	text(out, name);
	fprintf(out, ", %d tokens, tokenizer %s\n", (int)n, hex);
}

/* The distance up to NEAR, all that are farther as one. */
static uint32_t class_of(const kf_vocabmap *m, int32_t id)
{
	return m->distance[id] <= NEAR ? m->distance[id] : NEAR + 1;
}

static void example(FILE *out, const kf_vocabmap *m, int32_t id)
{
	fputs("    ", out);
	text(out, m->spelled[0][id]);
	fputs(" -> ", out);
	text(out, m->spelled[1][m->to[id]]);
	if (m->count[id]) fprintf(out, "  seen %llu times", (unsigned long long)m->count[id]);
	putc('\n', out);
}

static void summary(FILE *out, const char *path, const kf_vocabmap *m)
{
	uint32_t n[NEAR + 2] = { 0 }, mapped = 0, equal = 0, counted = 0;
	char hex[KF_FP_HEX];

	for (int32_t id = 0; id < m->key.n; id++) {
		if (m->to[id] < 0) continue;
		mapped++;
		equal += m->equal[id];
		counted += m->count[id] > 0;
		n[class_of(m, id)]++;
	}
	kf_fp_hex(kf_vocabmap_fp(&m->key), hex);
	fprintf(out, "%-14s %s\n%-14s %s\n%-14s %s\n", "map", path, "method", m->key.method, "identity", hex);
	side(out, "source", m->source, m->key.n, m->key.source);
	side(out, "target", m->target, m->key.m, m->key.target);
	kf_fp_hex(m->key.corpus, hex);
	if (m->key.counted) fprintf(out, "%-14s %s\n", "corpus", hex);
	fprintf(out, "%-14s %u of %d tokens, %u of them to a token of the same spelling", "maps", mapped, (int)m->key.n, equal);
	if (counted) fprintf(out, ", %u seen together", counted);
	putc('\n', out);
	for (uint32_t d = 0; d <= NEAR + 1; d++) {
		uint32_t at = 0;

		if (n[d] == 0) continue;
		fprintf(out, d <= NEAR ? "%-11s %2u %u\n" : "%-11s >%u %u\n", "distance", d <= NEAR ? d : NEAR, n[d]);
		/* some from all over the vocabulary */
		for (int32_t id = 0; d > 0 && id < m->key.n; id++) {
			if (m->to[id] < 0 || class_of(m, id) != d) continue;
			if (at++ % ((n[d] + EXAMPLES - 1) / EXAMPLES) == n[d] / (2 * EXAMPLES)) example(out, m, id);
		}
	}
}

static void json(FILE *out, const kf_vocabmap *m)
{
	for (int32_t id = 0; id < m->key.n && !ferror(out); id++) {
		fprintf(out, "{\"id\":%d,\"token\":", (int)id);
		text(out, m->spelled[0][id]);
		if (m->to[id] >= 0) {
			fprintf(out, ",\"to\":%d,\"target\":", (int)m->to[id]);
			text(out, m->spelled[1][m->to[id]]);
			fprintf(out, ",\"distance\":%u", m->distance[id]);
		} else {
			fputs(",\"to\":null,\"target\":null,\"distance\":null", out);
		}
		fprintf(out, ",\"equal\":%s", m->equal[id] ? "true" : "false");
		if (m->key.counted) fprintf(out, ",\"count\":%llu", (unsigned long long)m->count[id]);
		fputs("}\n", out);
	}
}

kf_status kf_inspect_map(const kf_inspect_opts *o, FILE *out, kf_err *err)
{
	kf_vocabmap *m;
	kf_status rc;

	if (o->doc >= 0 || o->sizes || o->path)
		return kf_fail(err, KF_EUSAGE, "%s is a file, so a vocabulary map: --doc, --sizes and --path are for shard sets", o->dir);
	if ((rc = kf_vocabmap_read(o->dir, &m, err)) != KF_OK) return rc;
	if (o->verify || o->repair) fprintf(out, "%s: %d tokens: good\n", o->dir, (int)m->key.n);
	else if (o->json) json(out, m);
	else summary(out, o->dir, m);
	kf_vocabmap_free(m);
	return KF_OK;
}
