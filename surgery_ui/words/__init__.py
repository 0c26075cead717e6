"""How numbers, plans and findings read on a page. Nothing here computes a result or imports Streamlit."""
