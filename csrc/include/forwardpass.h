/* SPDX-License-Identifier: Apache-2.0
 *
 * The C interface for programs that embed forwardpass in a Python process: load a model once, then run it from any
 * thread without Python objects and without the GIL.
 *
 *   const fp_api* fp = (const fp_api*)PyCapsule_Import("forwardpass._native._C_API", 0);
 *   char error[256];
 *   fp_model* model = fp->load("model.npz", "float32", 1, 1, error, sizeof error);
 *   if (!model) fail(error);
 *   const void* inputs[] = {x};
 *   void* outputs[] = {y};
 *   fp->run(model, inputs, outputs);
 *   fp->release(model);
 */
#ifndef FORWARDPASS_H
#define FORWARDPASS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FP_API_VERSION 1
#define FP_MAX_RANK 8

/* A model whose input shapes are fixed. */
typedef struct fp_model fp_model;

/* Element types; types are only ever appended. */
typedef enum fp_type {
  fp_float32,
  fp_float64,
  fp_float16,
  fp_int64,
  fp_int32,
  fp_int16,
  fp_int8,
  fp_uint64,
  fp_uint32,
  fp_uint16,
  fp_uint8,
  fp_bool
} fp_type;

/* An input or output: dense values in C order. */
typedef struct fp_tensor_info {
  const char* name; /* lives as long as the model */
  int32_t rank;
  int64_t shape[FP_MAX_RANK];
  int64_t bytes;
  fp_type type;
} fp_tensor_info;

typedef struct fp_api {
  uint32_t version; /* FP_API_VERSION of the installed package; members are only ever appended */

  /* Loads a model file and plans it for `batch` in place of the symbolic first dimension of its inputs. precision:
   * "float32" or "portable"; threads: 0 for the default. Takes the GIL. NULL on failure, with a message in `error`. */
  fp_model* (*load)(const char* path, const char* precision, int32_t threads, int64_t batch, char* error,
                    size_t error_size);
  /* Takes the GIL. */
  void (*release)(fp_model* model);

  int32_t (*input_count)(const fp_model* model);
  int32_t (*output_count)(const fp_model* model);
  /* 0, or -1 if there is no such input or output. */
  int32_t (*input_info)(const fp_model* model, int32_t index, fp_tensor_info* info);
  int32_t (*output_info)(const fp_model* model, int32_t index, fp_tensor_info* info);

  /* Runs on the caller's memory: one address per input and output, each of `bytes` bytes in C order, aligned as its
   * element type. Outputs must not overlap inputs. Allocates nothing unless more threads are inside one model at once
   * than ever before. Any number of threads may call it. 0; -1 where there is no memory for one more of them; or the
   * number (from 1) of the plan's step that met an index out of range in the data, and then the outputs are undefined.
   */
  int32_t (*run)(const fp_model* model, const void* const* inputs, void* const* outputs);
} fp_api;

#ifdef __cplusplus
}
#endif
#endif
