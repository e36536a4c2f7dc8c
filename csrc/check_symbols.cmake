# SPDX-License-Identifier: Apache-2.0
# Fails when an ISA's objects define a weak symbol that another ISA's objects, or the rest of the program, may
# define too: the linker keeps one copy for everybody, and that may hold instructions that this CPU lacks.
#
#   cmake -DNM=nm "-DISAS=scalar;avx2" -DDIR_scalar=LIST -DDIR_avx2=LIST -P check_symbols.cmake
#
#   NM          a nm that understands -p, -C and --defined-only
#   ISAS        names, which are also the namespaces forwardpass::<name>
#   DIR_<name>  a file that lists the ISA's object files, one on a line or separated by semicolons
cmake_minimum_required(VERSION 3.18)

# An object, a type and a symbol in a line of nm -A. Types: W and V weak, w and v weak without a definition of their own,
# u GNU unique.
set(weak_symbol "^(.*):[0-9a-fA-F]* *[WVwvu] (.*)$")

# The lines of nm for the weak symbols of objects, brackets and semicolons replaced so that CMake lists keep them apart.
function(read_weak_symbols result)
  execute_process(
    COMMAND "${NM}" -A -p --defined-only ${ARGN}
    OUTPUT_VARIABLE text
    ERROR_VARIABLE error
    RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${NM} failed: ${error}")
  endif()
  string(REPLACE ";" "," text "${text}")
  string(REPLACE "[" "(" text "${text}")
  string(REPLACE "]" ")" text "${text}")
  string(REPLACE "\n" ";" text "${text}")
  list(FILTER text INCLUDE REGEX "${weak_symbol}")
  set(${result} "${text}" PARENT_SCOPE)
endfunction()

set(problems "")
foreach(isa IN LISTS ISAS)
  file(STRINGS "${DIR_${isa}}" objects)
  if(NOT objects)
    message(FATAL_ERROR "${DIR_${isa}} lists no objects of ${isa}")
  endif()
  # Itanium mangling: a name nested in forwardpass::<isa>, or a vtable, guard or static local of one.
  # The demangled text would not do: there a template function begins with its return type.
  string(LENGTH "${isa}" length)
  set(own_name "^_Z(GV|GR|T.|Z)*N[rVKRO]*11forwardpass${length}${isa}")
  read_weak_symbols(mangled ${objects})
  read_weak_symbols(demangled -C ${objects})
  foreach(line text IN ZIP_LISTS mangled demangled)
    string(REGEX REPLACE "${weak_symbol}" "\\1" object "${line}")
    string(REGEX REPLACE "${weak_symbol}" "\\2" symbol "${line}")
    # The compiler's own pointer to the exception personality: data, and the same in every object.
    if(symbol MATCHES "^DW\\.ref\\.")
      continue()
    endif()
    string(REGEX REPLACE "${weak_symbol}" "\\2" name "${text}")
    if(DEFINED "owner_${symbol}" AND NOT "${owner_${symbol}}" STREQUAL isa)
      list(APPEND problems "${name}: defined for ${owner_${symbol}} and ${isa} (${object})")
    elseif(NOT symbol MATCHES "${own_name}")
      list(APPEND problems "${name}: outside forwardpass::${isa} (${object})")
    endif()
    set("owner_${symbol}" "${isa}")
  endforeach()
endforeach()

if(problems)
  list(REMOVE_DUPLICATES problems)
  list(JOIN problems "\n  " text)
  message(FATAL_ERROR "weak symbols that ISA objects must not define:\n  ${text}\n"
    "Make the function always inline (FP_INLINE) or static, and keep the STL out of kernel sources.")
endif()
