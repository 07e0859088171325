/* check.h - all the framework these tests need: a check that says where it failed. */
#ifndef NSD_CHECK_H
#define NSD_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What pytest is told when this machine does not allow what the program tests. */
#define SKIPPED 77

#define CHECK(condition)                                                               \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
            exit(1);                                                                   \
        }                                                                              \
    } while (0)

/* A place that is not reached. */
#define UNREACHED(what)                                                                \
    do {                                                                               \
        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, what);                      \
        exit(1);                                                                       \
    } while (0)

#define CHECK_NUMBER(found, expected)                                                  \
    do {                                                                               \
        long long found_ = (long long)(found), expected_ = (long long)(expected);      \
        if (found_ != expected_) {                                                     \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__,       \
                    #found, found_, expected_);                                        \
            exit(1);                                                                   \
        }                                                                              \
    } while (0)

#define CHECK_TEXT(found, expected)                                                    \
    do {                                                                               \
        const char *found_ = (found), *expected_ = (expected);                         \
        if (found_ == NULL || strcmp(found_, expected_) != 0) {                        \
            fprintf(stderr, "%s:%d: %s is\n  %s\nnot\n  %s\n", __FILE__, __LINE__,     \
                    #found, found_ == NULL ? "(absent)" : found_, expected_);          \
            exit(1);                                                                   \
        }                                                                              \
    } while (0)

#define RUN(test)                                                                      \
    do {                                                                               \
        test();                                                                        \
        printf("ok %s\n", #test);                                                      \
        fflush(stdout);                                                                \
    } while (0)

#endif
