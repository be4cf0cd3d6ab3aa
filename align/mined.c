#include "align/mined.h"

#include <string.h>

#include "align/vocab.h"
#include "common/base/progress.h"

/* Code points to symbols, the same in both; their number. 0: no memory. */
static uint32_t renumber(align_words *a, align_words *b)
{
	uint32_t *symbol = kf_zalloc(ALIGN_CODES, sizeof *symbol), n = 0;  /* 0: not seen yet, else 1 + the number */

	for (int side = 0; symbol && side < 2; side++) {
		align_words *w = side ? b : a;

		for (uint32_t i = 0; i < w->off[w->n]; i++) {
			uint32_t *s = &symbol[w->text[i]];

			if (!*s) *s = ++n;
			w->text[i] = *s - 1;
		}
	}
	kf_free(symbol);
	return symbol ? n + 1 : 0;
}

static void show(void *arg, size_t tokens) { kf_progress_add(arg, (double)tokens); }

kf_status align_mined_init(align_mined *m, const kf_tokenizer *source, const kf_tokenizer *target, kf_pool *pool, int progress,
	kf_err *err)
{
	kf_progress p;
	int32_t *exact = NULL, todo = 0;
	kf_status rc;

	memset(m, 0, sizeof *m);
	if ((rc = align_words_marked(source, align_marker(target), &m->a, err)) != KF_OK) return rc;
	if ((rc = align_words_marked(target, align_marker(target), &m->b, err)) != KF_OK) return rc;
	m->symbols = renumber(&m->a, &m->b);
	m->near = kf_alloc((size_t)m->a.n, sizeof *m->near);
	exact = kf_alloc((size_t)m->a.n, sizeof *exact);
	if (!m->symbols || !m->near || !exact) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for a vocabulary map of %d tokens", (int)m->a.n);
		goto out;
	}
	if ((rc = align_exact(source, target, exact, err)) != KF_OK) goto out;
	for (int32_t i = 0; i < m->a.n; i++) {
		m->near[i] = exact[i] >= 0 ? (align_near){ 0, exact[i] } : (align_near){ ALIGN_FAR, -1 };
		todo += exact[i] < 0;
	}
	kf_progress_start(&p, "map", "tokens", todo, progress);
	rc = align_nearest(&m->a, &m->b, m->symbols, pool, m->near, show, &p, err);
	kf_progress_end(&p);
out:
	kf_free(exact);
	return rc;
}

void align_mined_release(align_mined *m)
{
	align_words_release(&m->a);
	align_words_release(&m->b);
	kf_free(m->near);
	memset(m, 0, sizeof *m);
}
