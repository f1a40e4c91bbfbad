"""Which scan does an expert label next, and how does the finished mask come back?"""
