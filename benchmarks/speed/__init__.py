"""How fast is it, against plain Stable-Baselines3 in the same run, and how does cost grow?"""
