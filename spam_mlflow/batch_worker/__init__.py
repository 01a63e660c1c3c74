"""What scores the parts of a large input, in processes that never import this project.

This folder is copied whole to where parts are scored, under another name: beside a worker process,
or to the executors of Spark. It imports nothing else of the project, and its imports are relative.
"""
