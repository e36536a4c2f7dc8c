# SPDX-License-Identifier: Apache-2.0
# Builds csrc/kernels once per folder of csrc/isa that this processor family can run, with the sources of the folder
# itself if it has any. The only build code that knows of ISAs; it knows none by name.
#   FORWARDPASS_ISA_OBJECTS    their objects
#   FORWARDPASS_GENERATED_DIR  where isas.inc is: ISA(name, rank, "features"), highest rank first

set(FORWARDPASS_GENERATED_DIR ${CMAKE_CURRENT_BINARY_DIR}/generated)
set(FORWARDPASS_ISA_OBJECTS)
set(isa_lines)
set(isa_names)
set(symbol_arguments)
set(object_lists)
file(GLOB kernel_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/csrc/kernels/*.cpp)
file(GLOB isa_files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/csrc/isa/*/isa.cmake)

set(FORWARDPASS_ISAS "" CACHE STRING "ISAs to build, such as scalar;avx2; empty for all of this processor family")
set(FORWARDPASS_PLAIN_ISAS "" CACHE STRING "ISAs that sanitizers do not look at, as no test will use them")

# Kernels of every element type, width or tile are instantiated so often that -O3, which unrolls each, would fill half
# of the wheel.
# Sanitizers bring an -O of their own, which this would override.
if(NOT FORWARDPASS_SANITIZE)
  foreach(typed cumulative gather nbits order planes pool reduce_int scatter typed)
    # Headers that were compiled for -O3 would make them larger again.
    set_source_files_properties(${CMAKE_CURRENT_SOURCE_DIR}/csrc/kernels/${typed}.cpp PROPERTIES
                                COMPILE_OPTIONS -O2 SKIP_PRECOMPILE_HEADERS ON)
  endforeach()
endif()

foreach(isa_file ${isa_files})
  get_filename_component(isa_dir ${isa_file} DIRECTORY)
  get_filename_component(isa ${isa_dir} NAME)
  if(FORWARDPASS_ISAS AND NOT isa IN_LIST FORWARDPASS_ISAS)
    continue()
  endif()
  set(ISA_KERNELS)
  set(ISA_HEADERS)
  include(${isa_file})
  if(ISA_PROCESSORS AND NOT CMAKE_SYSTEM_PROCESSOR IN_LIST ISA_PROCESSORS)
    continue()
  endif()
  set(sources ${kernel_sources})
  if(ISA_KERNELS)
    list(TRANSFORM ISA_KERNELS PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/csrc/kernels/ OUTPUT_VARIABLE sources)
  endif()
  file(GLOB own_sources CONFIGURE_DEPENDS ${isa_dir}/*.cpp)
  add_library(kernels_${isa} OBJECT ${sources} ${own_sources})
  target_compile_definitions(kernels_${isa} PRIVATE FORWARDPASS_ISA=${isa})
  target_include_directories(kernels_${isa} PRIVATE ${isa_dir} ${CMAKE_CURRENT_SOURCE_DIR}/csrc/kernels)
  # Kernels throw nothing and call nothing that throws, so that tables for unwinding would be dead weight in the wheel.
  target_compile_options(kernels_${isa} PRIVATE -O3 -fno-exceptions -fno-rtti -fno-asynchronous-unwind-tables
                                                ${ISA_FLAGS})
  target_link_libraries(kernels_${isa} PRIVATE fp_options)
  if(ISA_HEADERS)
    # The compiler's intrinsics take it longer than most kernels do.
    target_precompile_headers(kernels_${isa} PRIVATE ${ISA_HEADERS})
  endif()
  if(isa IN_LIST FORWARDPASS_PLAIN_ISAS)
    target_compile_options(kernels_${isa} PRIVATE -O1)
  else()
    target_link_libraries(kernels_${isa} PRIVATE fp_sanitize)
  endif()
  set(objects "$<FILTER:$<TARGET_OBJECTS:kernels_${isa}>,EXCLUDE,cmake_pch>")
  list(APPEND FORWARDPASS_ISA_OBJECTS ${objects})
  list(APPEND isa_names ${isa})
  list(JOIN ISA_REQUIRES " " required)
  math(EXPR order "1000 + ${ISA_RANK}")
  list(APPEND isa_lines "${order}:ISA(${isa}, ${ISA_RANK}, \"${required}\")")
  set(object_list ${CMAKE_CURRENT_BINARY_DIR}/objects_${isa}.txt)
  file(GENERATE OUTPUT ${object_list} CONTENT "$<JOIN:${objects},\n>\n")
  list(APPEND symbol_arguments -DDIR_${isa}=${object_list})
  list(APPEND object_lists ${object_list})
endforeach()

list(SORT isa_lines ORDER DESCENDING)
list(TRANSFORM isa_lines REPLACE "^[0-9]+:" "")
list(JOIN isa_lines "\n" isa_text)
file(CONFIGURE OUTPUT ${FORWARDPASS_GENERATED_DIR}/isas.inc CONTENT "${isa_text}\n")

# One definition of an inline function, compiled for several ISAs, would let the linker keep the one that this
# machine cannot run.
if(CMAKE_NM)
  set(symbols_checked ${CMAKE_CURRENT_BINARY_DIR}/symbols_checked)
  add_custom_command(
    OUTPUT ${symbols_checked}
    COMMAND ${CMAKE_COMMAND} -DNM=${CMAKE_NM} "-DISAS=${isa_names}" ${symbol_arguments}
            -P ${CMAKE_CURRENT_SOURCE_DIR}/csrc/check_symbols.cmake
    COMMAND ${CMAKE_COMMAND} -E touch ${symbols_checked}
    DEPENDS ${FORWARDPASS_ISA_OBJECTS} ${object_lists} csrc/check_symbols.cmake
    COMMENT "Checking that ISA objects share no weak symbols"
    VERBATIM)
  add_custom_target(check_symbols ALL DEPENDS ${symbols_checked})
endif()
