"""What Streamlit does not have: the layer strip, coloured tokens, the link, and what a browser knows of itself."""
