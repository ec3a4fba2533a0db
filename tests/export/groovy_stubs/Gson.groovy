package com.google.gson

/** Gson, which QuPath brings; numbers come as doubles there, so they do here. */
class Gson {
    def <T> T fromJson(String text, Class<T> type) { doubles(new groovy.json.JsonSlurper().parseText(text)) }

    private static doubles(value) {
        if (value instanceof Map) {
            return value.collectEntries { k, v -> [(k): doubles(v)] }
        }
        if (value instanceof List) {
            return value.collect { doubles(it) }
        }
        value instanceof Number ? value.doubleValue() : value
    }
}
