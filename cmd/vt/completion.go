package main

func (e *env) completion([]string) int { return 0 }
