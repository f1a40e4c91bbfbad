"""How do viewers and a browser reach a model, and how do their labels come back?"""
