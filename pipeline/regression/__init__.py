"""Has a model's refusal behaviour moved?"""
