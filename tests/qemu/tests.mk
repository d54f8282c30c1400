# SPDX-License-Identifier: GPL-2.0-only
#
# Compiles what runs in the guest: init, the harness, the test programs and the benchmark programs, all static.
# Run by `run` inside the root trixie, from the top of the tree; not part of the Makefile for people.

OUT := build
GROUPS := uapi gmem trap uffd kvm libgmemfd cli vmm stress fail
CFLAGS := -std=gnu11 -O2 -g0 -D_GNU_SOURCE -Wall -Wextra -Werror -Wmissing-prototypes -Wno-unused-parameter \
	-pthread -Iinclude/uapi -Iinclude -Ilib -Itests/lib -MMD -MP

lib-src := $(wildcard tests/lib/*.c)
lib-obj := $(lib-src:tests/lib/%.c=$(OUT)/tests.lib/%.o)
lib := $(OUT)/tests.lib/libtests.a

tests := $(foreach g,$(GROUPS),$(patsubst tests/$(g)/%.c,$(OUT)/tests/$(g)-%,$(wildcard tests/$(g)/*.c)))
bench := $(patsubst tests/bench/%.c,$(OUT)/bench/%,$(wildcard tests/bench/*.c))
wall := $(patsubst tests/wall/%.c,$(OUT)/wall/%,$(wildcard tests/wall/*.c))
demo := $(patsubst demo/%.c,$(OUT)/demo/%,$(wildcard demo/*.c))
packages := $(patsubst tests/packages/%.c,$(OUT)/packages.tests/%,$(wildcard tests/packages/*.c))
examples := $(OUT)/examples/uffd-memfd $(OUT)/examples/uffd-gmemfd $(OUT)/examples/serve $(OUT)/examples/takeover

guest := $(OUT)/vmm/guest.cpio

all: $(OUT)/init $(tests) $(bench) $(wall) $(demo) $(packages) $(examples) $(guest) prune

$(OUT)/init: tests/qemu/init.c tests/qemu/tests.mk
	@mkdir -p $(@D)
	gcc $(CFLAGS) -MF $@.d -static -s $< -o $@

$(OUT)/tests.lib/%.o: tests/lib/%.c tests/qemu/tests.mk
	@mkdir -p $(@D)
	gcc $(CFLAGS) -c $< -o $@

$(lib): $(lib-obj)
	rm -f $@
	ar rcs $@ $^

# The library, and what its tests need beside being compiled.
include tests/libgmemfd/libgmemfd.mk

# $(1) the program, $(2) its source
define program
$(1): $(2) $(lib) tests/qemu/tests.mk
	@mkdir -p $(OUT)/tests $(OUT)/bench $(OUT)/demo $(OUT)/wall $(OUT)/packages.tests $(OUT)/tests.dep
	gcc $(CFLAGS) -MF $(OUT)/tests.dep/$(notdir $(1)).d -static -s $(2) $$(objects) $(lib) $$(libs) -ljson-c -o $(1).new
	mv $(1).new $(1)
endef
$(foreach g,$(GROUPS),$(foreach s,$(wildcard tests/$(g)/*.c),\
	$(eval $(call program,$(OUT)/tests/$(g)-$(basename $(notdir $(s))),$(s)))))
$(foreach s,$(wildcard tests/bench/*.c),\
	$(eval $(call program,$(OUT)/bench/$(basename $(notdir $(s))),$(s))))
$(foreach s,$(wildcard tests/wall/*.c),\
	$(eval $(call program,$(OUT)/wall/$(basename $(notdir $(s))),$(s))))
$(foreach s,$(wildcard demo/*.c),\
	$(eval $(call program,$(OUT)/demo/$(basename $(notdir $(s))),$(s))))
$(foreach s,$(wildcard tests/packages/*.c),\
	$(eval $(call program,$(OUT)/packages.tests/$(basename $(notdir $(s))),$(s))))

# An example is compiled as somebody would who has found it, uffd.c for the kernel and for gmemfd from one source, and once
# more becomes a part of the test that runs it.
$(OUT)/examples/uffd-memfd.o: variant :=
$(OUT)/examples/uffd-gmemfd.o: variant := -DGMEMFD -Iinclude/uapi
$(OUT)/examples/serve.o $(OUT)/examples/takeover.o: variant := -Iinclude/uapi -Ilib
$(OUT)/examples/serve $(OUT)/examples/takeover: libs := $(libgmemfd)
$(OUT)/examples/serve $(OUT)/examples/takeover: $(libgmemfd)
$(OUT)/examples/uffd-memfd.o $(OUT)/examples/uffd-gmemfd.o: examples/uffd.c
$(OUT)/examples/serve.o: examples/serve.c
$(OUT)/examples/takeover.o: examples/takeover.c
$(examples:%=%.o): tests/qemu/tests.mk
	@mkdir -p $(@D)
	gcc -std=gnu11 -O2 -Wall -Wextra -Werror -pthread $(variant) -MMD -MP -c $(filter examples/%.c,$^) -o $@

$(examples): %: %.o
	gcc -pthread -static -s $< $(libs) -o $@

$(OUT)/examples/%.part.o: $(OUT)/examples/%.o
	objcopy --redefine-sym main=example_$(*:uffd-%=%) $< $@

# $(1) the test, $(2) its examples
define runs_examples
$(OUT)/tests/$(1): objects := $(2:%=$(OUT)/examples/%.part.o)
$(OUT)/tests/$(1): $(2:%=$(OUT)/examples/%.part.o)
endef
$(eval $(call runs_examples,uffd-example,uffd-memfd uffd-gmemfd))
$(eval $(call runs_examples,libgmemfd-examples,serve takeover))

# The initramfs of the Linux guest that QEMU runs in the bench's guest.
$(OUT)/vmm/guest/init: tests/vmm/guest/init.c tests/qemu/tests.mk
	@mkdir -p $(@D) $(OUT)/tests.dep
	gcc $(CFLAGS) -MF $(OUT)/tests.dep/vmm-guest.d -static -s $< -o $@

$(guest): $(OUT)/vmm/guest/init
	cd $(<D) && echo init | cpio -o -H newc -R 0:0 --quiet >$(CURDIR)/$@.new
	mv $@.new $@

broken := $(patsubst tests/qemu/selfproof/programs/%.c,$(OUT)/selfproof/programs/%,$(wildcard tests/qemu/selfproof/programs/*.c))
selfproof: $(broken)
$(broken): $(OUT)/selfproof/programs/%: tests/qemu/selfproof/programs/%.c $(lib) tests/qemu/tests.mk
	@mkdir -p $(@D) $(OUT)/tests.dep
	gcc $(CFLAGS) -MF $(OUT)/tests.dep/selfproof-$*.d -static -s $< $(lib) -ljson-c -o $@

include tests/cli/gmemctl.mk

# A test whose source is gone must not run any more.
.PHONY: all prune selfproof
prune:
	@rm -f $(filter-out $(tests) $(bench) $(wall) $(demo) $(packages) $(broken),\
		$(wildcard $(patsubst %,$(OUT)/%/*,tests bench wall demo packages.tests selfproof/programs)))

.DELETE_ON_ERROR:
-include $(wildcard $(OUT)/tests.lib/*.d $(OUT)/tests.dep/*.d $(OUT)/examples/*.d $(OUT)/init.d)
