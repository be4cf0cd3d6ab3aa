# For a Makefile of your own: kfuse's pipeline on your models and your text, every step cached. docs/make.md has an example.
#
#   TARGET    the model to train: models/NAME, a Hugging Face folder, or models/NAME.gguf
#   SOURCES   the models to learn from, in the same place
#   TEXT      files and folders of text or JSON Lines; or DOMAINS: names of text/NAME.jsonl
#
# then `make fuse`; also pairs, baselines, continual ADD=MODEL, and every variable of pipeline.mk beside this file.
KFUSE_MK := $(dir $(lastword $(MAKEFILE_LIST)))
KFUSE_BIN ?= @BIN@

$(foreach v,TARGET SOURCES,$(if $($v),,$(error kfuse.mk: $v is not set: the name of a model in models/)))
$(if $(TEXT)$(DOMAINS),,$(error kfuse.mk: set TEXT to files and folders of text, or DOMAINS to names of text/NAME.jsonl))
DOMAINS    ?=
DATA       ?= .
WORK       ?= work
DOCS       ?= 0
VALID_DOCS ?= 50
TEST_DOCS  ?= 50
EPOCHS     ?= 2

# Tasks are files of one's own: tasks/NAME.jsonl.
fetch_task = echo "kfuse.mk: there is no $(2:./%=%): put the questions there (docs/eval.md has the form)" >&2; exit 1

$(DATA)/models/%.gguf:
	@echo "kfuse.mk: there is no model $*: put a Hugging Face folder at $(DATA)/models/$*, or a file $@" >&2; exit 1
$(DATA)/text/%.jsonl:
	@echo "kfuse.mk: there is no $@: put the text of the domain $* there, as JSON Lines, or set TEXT to files and folders" >&2; exit 1

ifeq ($(.DEFAULT_GOAL),)
.DEFAULT_GOAL := fuse
endif
include $(KFUSE_MK)pipeline.mk $(KFUSE_MK)demo.mk
